//! Ctrl-C, SIGTERM, and SIGHUP as SIGTERM (a terminal that was closed): the first asks the rotation to stop cleanly, the second leaves at once.
//!
//! A thread of its own listens: it is there however busy the rotation's thread is, and a simulation's runtime
//! needs no sockets for it.

use tokio::runtime::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use super::exit::Exit;
use super::log;
use crate::controller::Interrupt;

/// Listens from now on.
///
/// # Errors
/// If the handlers cannot be installed, or the thread cannot be started.
pub fn listen() -> std::io::Result<watch::Receiver<Option<Interrupt>>> {
    let runtime = Builder::new_current_thread().enable_io().build()?;
    let mut signals = {
        let _inside = runtime.enter();
        let [int, term, hup] = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()].map(signal);
        (int?, term?, hup?)
    };
    let (sender, receiver) = watch::channel(None);
    let listening = async move {
        let first = next(&mut signals).await;
        // Where nobody listens any more the rotation has ended; the second signal still leaves.
        let _ = sender.send(Some(first));
        let second = next(&mut signals).await;
        log::leave();
        std::process::exit(i32::from(Exit::from(second).code()));
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || runtime.block_on(listening))?;
    Ok(receiver)
}

async fn next((int, term, hup): &mut (Signal, Signal, Signal)) -> Interrupt {
    tokio::select! {
        biased;
        _ = int.recv() => Interrupt::Int,
        _ = term.recv() => Interrupt::Term,
        _ = hup.recv() => Interrupt::Term,
    }
}

/// Resolves once a signal has come.
pub async fn received(mut interrupt: watch::Receiver<Option<Interrupt>>) -> Interrupt {
    match interrupt.wait_for(Option::is_some).await.map(|signal| *signal) {
        Ok(Some(signal)) => signal,
        // The listener lives as long as the runtime: there is nobody left to wait.
        Ok(None) | Err(_) => std::future::pending().await,
    }
}
