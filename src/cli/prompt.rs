//! Questions to a person, on standard error, so that standard output holds data alone.

use std::io::IsTerminal;

use super::printer::{Printer, complain};

/// Whether somebody can answer.
pub fn can_ask() -> bool {
    std::io::stdin().is_terminal()
}

/// Asks yes or no; anything but yes is no, the end of the input included.
pub async fn yes(printer: &Printer, question: &str) -> bool {
    printer.err(&format!("{} [y/N] ", printer.error_paint.bold(question)));
    matches!(answer().await.as_str(), "y" | "Y" | "yes" | "Yes" | "YES")
}

/// Asks for `word` to be typed.
pub async fn typed(printer: &Printer, question: &str, word: &str) -> bool {
    printer.err(&format!("{} ", printer.error_paint.bold(question)));
    answer().await == word
}

/// One line. Read on a thread of the blocking pool: signals are heard meanwhile, and the simulator's clock
/// stands still as long as it lasts.
async fn answer() -> String {
    let unanswered = Unanswered;
    let read = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        // A terminal that cannot be read has not said yes.
        std::io::stdin().read_line(&mut line).map(|_| line).unwrap_or_default()
    });
    let line = read.await.unwrap_or_default();
    // The end of the input leaves the cursor behind the question too.
    if line.ends_with('\n') {
        std::mem::forget(unanswered);
    }
    line.trim().to_owned()
}

/// A question on the screen; where it is left without an answer, what comes next begins on a line of its own.
struct Unanswered;

impl Drop for Unanswered {
    fn drop(&mut self) {
        complain("\n");
    }
}
