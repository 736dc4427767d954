//! Prints how batching policies compare, and draws it.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match servekit_simulate::main_with(&arguments) {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(text) => {
            eprintln!("servekit-simulate: {text}");
            ExitCode::FAILURE
        }
    }
}
