//! What several nodes say of one proposed block comes to one verdict. Pure.
//!
//! One node's word is enough to take a template. To condemn one takes all that can say something: a node that errs must not
//! cost honest miners their work.

use std::fmt::Display;

use super::check::Verdict;
use crate::telemetry::TemplateOutcome;

/// A node's word on a header whose target is not that of a block on its parent. The pool has held the target of the work to that
/// already; on testnets it may be another by the time of the share, for work that was begun before ([`crate::work::Parent`]). No
/// block comes of that share, and the template is as good as ever.
const OTHER_TARGET: &str = "bad-diffbits";

/// What was heard of one proposal so far.
#[derive(Debug, Default)]
pub(super) struct Hearing {
    /// Who says that no block can come of it, and why; the first.
    refused: Option<String>,
    /// A word that says nothing of the template, such as one on another tip.
    nothing: Option<Verdict>,
    /// Those who do not answer, and why.
    silent: Vec<String>,
}

impl Hearing {
    /// One node's word (BIP 22), or why it has none. Gives the verdict where no other node needs to be asked.
    pub fn hear(&mut self, node: impl Display, word: Result<Option<String>, impl Display>) -> Option<Verdict> {
        let verdict = match word {
            Ok(word) => judge(&node, word),
            Err(error) => {
                self.silent.push(format!("{node}: {error}"));
                return None;
            }
        };
        match (verdict.outcome, &self.refused) {
            (TemplateOutcome::Valid, None) => Some(verdict),
            (TemplateOutcome::Valid, Some(refused)) => Some(Verdict::new(
                TemplateOutcome::Disputed,
                format!("{refused}, and the node at {node} would take the block"),
            )),
            (TemplateOutcome::Undecided, _) => {
                self.nothing.get_or_insert(verdict);
                None
            }
            (_, None) => {
                self.refused = Some(verdict.why);
                None
            }
            (_, Some(_)) => None,
        }
    }

    /// Whether a node has said that no block can come of it: the others are asked as well as can be.
    pub fn is_grave(&self) -> bool {
        self.refused.is_some()
    }

    /// The verdict, where there was no time to ask all: nobody is condemned who was not asked about by all.
    pub fn cut_short(self) -> Verdict {
        let heard = self.refused.into_iter().chain(self.silent).collect::<Vec<_>>();
        Verdict::new(
            TemplateOutcome::NoNode,
            format!("not all nodes could be asked in time: {}", heard.join("; ")),
        )
    }

    /// The verdict, where all were asked.
    pub fn end(self) -> Verdict {
        match (self.refused, self.nothing) {
            (Some(why), _) => Verdict::new(TemplateOutcome::Invalid, why),
            (None, Some(nothing)) => nothing,
            (None, None) => Verdict::new(TemplateOutcome::NoNode, self.silent.join("; ")),
        }
    }
}

/// What one node says of a proposal, in its words (BIP 22).
fn judge(node: impl Display, word: Option<String>) -> Verdict {
    match word.as_deref() {
        None => Verdict::new(TemplateOutcome::Valid, ""),
        Some("duplicate") => Verdict::new(TemplateOutcome::Valid, "it is a block already"),
        Some(word) if says_nothing(word) || word == OTHER_TARGET => Verdict::new(TemplateOutcome::Undecided, word),
        Some(word) => Verdict::new(TemplateOutcome::Invalid, format!("the node at {node} says `{word}`")),
    }
}

/// Whether a node's word on a block is of another tip than its own, or of the header alone, which was judged already.
pub(in crate::node) fn says_nothing(word: &str) -> bool {
    [
        "inconclusive",
        "duplicate-inconclusive",
        "time-too-",
        "bad-version",
        "prev-blk-not-found",
        "bad-prevblk",
    ]
    .iter()
    .any(|start| word.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WOULD: Result<Option<&str>, &str> = Ok(None);
    const WOULD_NOT: Result<Option<&str>, &str> = Ok(Some("bad-txns"));
    const OTHER_TIP: Result<Option<&str>, &str> = Ok(Some("inconclusive-not-best-prevblk"));
    const SILENT: Result<Option<&str>, &str> = Err("does not answer");

    /// What it comes to, and how many nodes were asked.
    fn heard(words: &[Result<Option<&str>, &str>]) -> (TemplateOutcome, usize) {
        let mut hearing = Hearing::default();
        for (node, word) in words.iter().enumerate() {
            if let Some(verdict) = hearing.hear(node, word.map(|word| word.map(str::to_owned))) {
                return (verdict.outcome, node + 1);
            }
        }
        (hearing.end().outcome, words.len())
    }

    #[test]
    fn one_node_takes_a_template() {
        assert_eq!(heard(&[WOULD, WOULD_NOT]), (TemplateOutcome::Valid, 1));
        assert_eq!(heard(&[OTHER_TIP, WOULD]), (TemplateOutcome::Valid, 2));
        assert_eq!(heard(&[SILENT, WOULD]), (TemplateOutcome::Valid, 2));
        assert_eq!(heard(&[Ok(Some("duplicate"))]), (TemplateOutcome::Valid, 1));
    }

    #[test]
    fn all_that_can_say_something_condemn_it() {
        assert_eq!(heard(&[WOULD_NOT]), (TemplateOutcome::Invalid, 1));
        assert_eq!(heard(&[WOULD_NOT, WOULD_NOT]), (TemplateOutcome::Invalid, 2));
        assert_eq!(heard(&[WOULD_NOT, SILENT, OTHER_TIP]), (TemplateOutcome::Invalid, 3));
        assert_eq!(heard(&[WOULD_NOT, WOULD]), (TemplateOutcome::Disputed, 2));
        assert_eq!(
            heard(&[OTHER_TIP, WOULD_NOT, SILENT, WOULD_NOT, WOULD]),
            (TemplateOutcome::Disputed, 5)
        );
    }

    #[test]
    fn no_template_is_condemned_before_all_were_asked() {
        let mut hearing = Hearing::default();
        assert!(
            hearing
                .hear("a", WOULD_NOT.map(|word| word.map(str::to_owned)))
                .is_none()
        );
        let verdict = hearing.cut_short();
        assert_eq!(verdict.outcome, TemplateOutcome::NoNode);
        assert!(verdict.why.contains("bad-txns"), "{}", verdict.why);
    }

    #[test]
    fn where_none_can_say_something_nothing_comes_of_it() {
        assert_eq!(heard(&[OTHER_TIP, SILENT]), (TemplateOutcome::Undecided, 2));
        assert_eq!(heard(&[SILENT, SILENT]), (TemplateOutcome::NoNode, 2));
        assert_eq!(heard(&[Ok(Some("time-too-old"))]), (TemplateOutcome::Undecided, 1));
    }

    #[test]
    fn the_target_of_a_header_says_nothing_of_a_template_and_is_the_last_word_on_a_block() {
        const TARGET: Result<Option<&str>, &str> = Ok(Some(OTHER_TARGET));
        assert_eq!(heard(&[TARGET]), (TemplateOutcome::Undecided, 1));
        assert_eq!(heard(&[TARGET, WOULD_NOT]), (TemplateOutcome::Invalid, 2));
        assert_eq!(heard(&[TARGET, WOULD]), (TemplateOutcome::Valid, 2));
        assert!(!says_nothing(OTHER_TARGET));
    }
}
