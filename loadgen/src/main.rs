//! The binary; the library has all of it.

use std::process::ExitCode;

fn main() -> ExitCode {
    millrace_loadgen::main()
}
