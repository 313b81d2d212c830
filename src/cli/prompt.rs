//! Questions to a person, on standard error, so that standard output holds data alone.

use std::io::IsTerminal;

use super::printer::Printer;

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
    let read = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        // A terminal that cannot be read has not said yes.
        std::io::stdin().read_line(&mut line).map(|_| line).unwrap_or_default()
    });
    read.await.unwrap_or_default().trim().to_owned()
}
