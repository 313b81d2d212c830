"""A real Kubernetes control plane beside an AWS stand-in, to run fastnode against.

    moto + engine (aws/) --> instances --> bridge --> Nodes --> kwok plays kubelets
         ^                                              |
         |  AWS API (logged)                            v
      fastnode -- EKS token --> webhook --> kube-apiserver, controller-manager,
         (the binary under test)            scheduler, etcd: the real programs
                                                        |
                   observer (reads the call log, the audit log and its own watches)
"""
