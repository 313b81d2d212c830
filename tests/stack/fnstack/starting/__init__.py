"""How kube-proxy and aws-node start on a new node: by what they are told, what is there, and what a kubelet does.

- `programs`: what runs in a container, given its spec and its node
- `kubelet`: runs them in pods' containers and writes the pods' status
- `flaws`: the two of them with both faults of node startup
- `logs`: the kubelet's own endpoint, where the API server reads what they wrote

Only pods whose DaemonSet's template carries `kubelet.MARK` are played so; kwok leaves those alone (stages.yaml).
"""
