//! Ctrl-C and SIGTERM: the first asks the rotation to stop cleanly, the second leaves at once.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use super::exit::Exit;
use super::log;
use crate::controller::Interrupt;

/// Listens from now on. Must be called inside a `LocalSet`.
///
/// # Errors
/// If the handlers cannot be installed.
pub fn listen() -> std::io::Result<watch::Receiver<Option<Interrupt>>> {
    let (mut int, mut term) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let (sender, receiver) = watch::channel(None);
    tokio::task::spawn_local(async move {
        let first = next(&mut int, &mut term).await;
        // Where nobody listens any more the rotation has ended; the second signal still leaves.
        let _ = sender.send(Some(first));
        let second = next(&mut int, &mut term).await;
        log::leave();
        std::process::exit(i32::from(Exit::from(second).code()));
    });
    Ok(receiver)
}

async fn next(int: &mut Signal, term: &mut Signal) -> Interrupt {
    tokio::select! {
        biased;
        _ = int.recv() => Interrupt::Int,
        _ = term.recv() => Interrupt::Term,
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
