//! Sessions that are over for longer than the log goes back: no share that is kept is theirs, and none can come.
//!
//! Work under a session's terms counts for `resume_for` after it has ended, or was adopted. So its last share came by then, and
//! where the first that is kept is younger, all of its shares are gone. The clock may have been set back meanwhile, by a day at
//! most: shares and ends of sessions are written by the time of day.

use super::{DAY_S, Rounds};
use crate::ledger::error::LedgerError;
use crate::ledger::messages::Message;
use crate::ledger::pace::READ_STEP;
use crate::ledger::reader::{self, Session};
use crate::ledger::share_log;

const SLACK_MS: u64 = DAY_S * 1_000;

/// All sessions are looked at when the log begins so much later than when they last were.
const EVERY_MS: u64 = DAY_S * 1_000;

/// Sessions that go with one batch.
const AT_ONCE: usize = 512;

impl Rounds {
    /// Lets the rows of such sessions go.
    pub(super) fn let_sessions_go(&mut self) -> Result<(), LedgerError> {
        let Some((_, first)) = share_log::shares(&self.db, 0)?.next().transpose()? else {
            return Ok(());
        };
        let before_ms = first.time_ms.saturating_sub(self.resume_for_ms + SLACK_MS);
        if before_ms < self.sessions_next_ms {
            return Ok(());
        }
        let db = self.db.clone();
        let (mut over, mut count) = (Vec::new(), 0);
        for (session, number) in reader::sessions(&db).zip(1_u64..) {
            let session = session?;
            if is_over(&session, before_ms) {
                over.push(session.row.terms.prime_id);
            }
            if over.len() == AT_ONCE {
                count += over.len();
                self.forget(std::mem::take(&mut over))?;
            }
            if number % READ_STEP == 0 {
                self.pace.rest()?;
            }
        }
        count += over.len();
        if count > 0 {
            self.forget(over)?;
            tracing::info!(
                sessions = count,
                "sessions were forgotten: none of their shares is kept any more"
            );
        }
        self.sessions_next_ms = before_ms + EVERY_MS;
        Ok(())
    }

    /// By way of the bookkeeper, which finds nothing out of sessions meanwhile.
    fn forget(&self, sessions: Vec<u32>) -> Result<(), LedgerError> {
        self.ask(|reply| Message::ForgetSessions(sessions, reply))
    }
}

/// Whether the last share under its terms came before that. What nobody proved is its shard's to abandon.
fn is_over(session: &Session, before_ms: u64) -> bool {
    let marks = [session.proven_ms, session.ended_ms];
    session.row.opened_ms < before_ms
        && marks
            .iter()
            .all(|mark_ms| mark_ms.is_some_and(|mark_ms| mark_ms < before_ms))
}
