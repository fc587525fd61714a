//! Questions to a gateway about the template of one of its jobs (protocol section 7), as those who ask them see them.

/// The three questions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    ShortIds,
    /// Indexes into the template, each once.
    ByIndex(Vec<u16>),
    All,
}

/// What a gateway is asked for. A block goes before checks, and has room of its own for its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To look at a template.
    Check,
    /// To put a block of ours together.
    Block,
}

/// What a gateway answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// In the order of the template.
    ShortIds {
        ids: Vec<[u8; 6]>,
        /// None where there are no transactions.
        cross_check: Option<[u8; 32]>,
    },
    /// In the order of the template or of the indexes, as [`crate::wire::Transactions`] reads them: taken apart by who asked,
    /// not on the shard's time.
    Transactions(Vec<u8>),
}

/// How a question to a gateway ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ValidateOutcome {
    /// The gateway has no session.
    NoSession,
    /// A question is already under way there, or was given up a moment ago and its answer may still come; or a block's went before this
    /// one.
    Busy,
    /// It was answered, and the process had no memory left for the answer.
    NoRoom,
    /// No gateway bears such a question: the slot is above 7, or an index stands twice, or there are too many.
    Unaskable,
    Answered(Answer),
    /// The gateway answered with one of its errors, `F0` to `F4`.
    Refused {
        error: u8,
    },
    /// What came does not answer what was asked.
    Contradictory,
    /// Nothing came in time, or for as long again.
    Late,
    /// The session ended first.
    SessionEnded,
}
