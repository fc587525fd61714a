//! What gateways show of templates that blocks of ours are of: whoever needs it first has the gateway asked, and all others have it of
//! that answer.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::watch;

use crate::work::{TemplateBody, ValidateOutcome};

/// Such answers that are kept, and questions under way, each of a block of 4 MB at most; the oldest go, and whoever waits for one
/// hears of it all the same.
const SHOWN_MAX: usize = 16;

/// All transactions of a template as its gateway shows them, whether they are its or not; or why it does not.
#[derive(Debug, Clone)]
pub(in crate::node) enum Shown {
    All(Arc<TemplateBody>),
    Not(ValidateOutcome),
}

/// An answer that is there, or under way.
#[derive(Clone)]
pub(in crate::node) struct Showing(watch::Receiver<Option<Shown>>);

/// The newest last.
#[derive(Default)]
pub(super) struct Showings(VecDeque<(Wanted, Showing)>);

/// Whose template, by its branches: another slot's of the same gateway has the same transactions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    pub gateway: [u8; 32],
    pub branches: Vec<[u8; 32]>,
}

impl Showing {
    pub async fn wait(mut self) -> Shown {
        let shown = self.0.wait_for(Option::is_some).await;
        // Nobody asks any more: the pool stops.
        let shown = shown.ok().and_then(|shown| shown.clone());
        shown.unwrap_or(Shown::Not(ValidateOutcome::Busy))
    }
}

impl Showings {
    pub fn find(&self, wanted: &Wanted) -> Option<Showing> {
        let known = self.0.iter().find(|(known, _)| known == wanted);
        known.map(|(_, showing)| showing.clone())
    }

    /// A question is under way; gives who is to be told what comes of it, and the oldest where that goes for it. To drop a block's
    /// transactions takes long: not under the lock.
    pub fn begin(&mut self, wanted: Wanted) -> (watch::Sender<Option<Shown>>, Showing, Option<Showing>) {
        let (tell, told) = watch::channel(None);
        let is_full = self.0.len() == SHOWN_MAX;
        let oldest = is_full.then(|| self.0.pop_front()).flatten();
        let oldest = oldest.map(|(_, showing)| showing);
        let showing = Showing(told);
        self.0.push_back((wanted, showing.clone()));
        (tell, showing, oldest)
    }

    /// It is asked for again when it is needed again. Gives what there was, to be dropped as that of [`Self::begin`].
    #[must_use]
    pub fn forget(&mut self, wanted: &Wanted) -> Option<Showing> {
        let at = self.0.iter().position(|(known, _)| known == wanted)?;
        self.0.remove(at).map(|(_, showing)| showing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_oldest_answers_go_and_who_waits_for_one_hears_of_it() {
        let mut showings = Showings::default();
        let wanted = |gateway: u8| Wanted {
            gateway: [gateway; 32],
            branches: Vec::new(),
        };
        let (tell, first, _) = showings.begin(wanted(0));
        for gateway in 1..=16 {
            let (_, _, oldest) = showings.begin(wanted(gateway));
            assert_eq!(oldest.is_some(), gateway == 16, "for who holds the lock to drop later");
        }
        assert!(showings.find(&wanted(0)).is_none() && showings.find(&wanted(1)).is_some());
        assert_eq!(showings.0.len(), SHOWN_MAX);
        tell.send_replace(Some(Shown::Not(ValidateOutcome::Late)));
        assert!(matches!(first.wait().await, Shown::Not(ValidateOutcome::Late)));
        assert!(showings.forget(&wanted(1)).is_some() && showings.forget(&wanted(1)).is_none());
        // Of one that nobody goes on with.
        let last = showings.find(&wanted(16)).expect("it is there");
        assert!(matches!(last.wait().await, Shown::Not(ValidateOutcome::Busy)));
        assert!(showings.find(&wanted(1)).is_none());
    }
}
