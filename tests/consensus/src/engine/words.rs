//! Why a block is invalid, in the engine's own word.
//!
//! The C interface says that a block failed, and in which of nine classes, but not the word (`bad-cb-amount`) that
//! bitcoind answers. The engine logs it during the same call and in the same thread, so it is read from there.

use std::cell::RefCell;
use std::sync::OnceLock;

use bitcoin::BlockHash;
use bitcoinkernel::{Log, Logger};

thread_local! {
    static LINES: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

/// Lines of one call that are kept: two are needed.
const LINES_MAX: usize = 10_000;

/// What the engine logged during one call.
#[derive(Debug)]
pub struct Said(Vec<String>);

/// Starts to listen, once for all engines of the process: the engine's log is a global thing.
pub fn listen() {
    struct Listener;
    impl Log for Listener {
        fn log(&self, line: &str) {
            LINES.with_borrow_mut(|lines| {
                if let Some(lines) = lines
                    && lines.len() < LINES_MAX
                {
                    lines.push(line.to_owned());
                }
            });
        }
    }
    static LISTENING: OnceLock<()> = OnceLock::new();
    LISTENING.get_or_init(|| {
        // Kept for the life of the process. Without it there are verdicts, but no words.
        if let Ok(logger) = Logger::new(Listener) {
            std::mem::forget(logger);
        }
    });
}

/// Calls the engine, and gives what it logged meanwhile.
pub fn heard<T>(call: impl FnOnce() -> T) -> (T, Said) {
    LINES.set(Some(Vec::new()));
    let result = call();
    (result, Said(LINES.take().unwrap_or_default()))
}

impl Said {
    /// The word for this block; none where the engine logged none.
    pub fn word(&self, hash: &BlockHash) -> Option<String> {
        let connecting = format!("ConnectBlock {hash} failed, ");
        self.0.iter().rev().find_map(|line| {
            let state = match line.split_once(&connecting) {
                Some((_, state)) => state,
                None => {
                    let (_, state) = line.split_once("AcceptBlock FAILED (")?;
                    state.trim_end().strip_suffix(')')?
                }
            };
            // A state is its word, and what there is to say beside it behind a comma.
            let word = state.split_once(", ").map_or(state, |(word, _)| word).trim();
            (!word.is_empty()).then(|| word.to_owned())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitcoin::hashes::Hash;

    fn said(line: &str) -> Option<String> {
        Said(vec!["other".to_owned(), line.to_owned(), "more".to_owned()]).word(&BlockHash::all_zeros())
    }

    #[test]
    fn words_stand_before_the_comma() {
        let zeros = "0".repeat(64);
        assert_eq!(
            said(&format!(
                "[error] ConnectTip: ConnectBlock {zeros} failed, bad-cb-amount, coinbase pays too much\n"
            )),
            Some("bad-cb-amount".to_owned())
        );
        assert_eq!(
            said("[error] ProcessNewBlock: AcceptBlock FAILED (bad-txnmrklroot, hashMerkleRoot mismatch)\n"),
            Some("bad-txnmrklroot".to_owned())
        );
        assert_eq!(
            said("[error] ProcessNewBlock: AcceptBlock FAILED (high-hash)\n"),
            Some("high-hash".to_owned())
        );
        let script = format!("ConnectBlock {zeros} failed, block-script-verify-flag-failed (False stack), input 0\n");
        assert_eq!(
            said(&script),
            Some("block-script-verify-flag-failed (False stack)".to_owned())
        );
    }

    #[test]
    fn other_lines_and_other_blocks_have_none() {
        let ones = "1".repeat(64);
        assert_eq!(
            said(&format!("ConnectTip: ConnectBlock {ones} failed, bad-cb-amount\n")),
            None
        );
        assert_eq!(said("UpdateTip: new best"), None);
    }
}
