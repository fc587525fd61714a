//! How near the process is to the memory it may take, and who goes for it.

/// What the pool does about its memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Pressure {
    /// There is room, or no budget.
    #[default]
    None,
    /// From 85 percent of the budget on: no new session, but for a gateway that has mined before, whose session takes the place of
    /// one that never did.
    RefuseNew,
    /// From 95 percent on: sessions that never had a share accepted go as well, the newest first.
    CloseIdle,
    /// From the whole budget on: all others go too, the newest first, so established miners last.
    CloseAny,
}

/// How a newcomer comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    Free,
    /// An idle session goes for it, by the rule of [`super::IdleSessions`].
    InExchange,
}

/// Sessions of a shard that go in a look, once a second: memory comes back late, and what is closed for nothing is lost.
pub const CLOSED_MAX: usize = 256;

/// Of those that mine, one in so many: a spike ends few of them.
const MINERS_PART: usize = 64;

impl Pressure {
    pub const REFUSE_PERCENT: u64 = 85;
    pub const CLOSE_IDLE_PERCENT: u64 = 95;

    /// By what is held and what may be, in bytes; a budget of 0 is none.
    #[must_use]
    pub fn of(held: u64, budget: u64) -> Self {
        let percent = |percent: u64| budget / 100 * percent;
        match held {
            _ if budget == 0 => Self::None,
            held if held >= budget => Self::CloseAny,
            held if held >= percent(Self::CLOSE_IDLE_PERCENT) => Self::CloseIdle,
            held if held >= percent(Self::REFUSE_PERCENT) => Self::RefuseNew,
            _ => Self::None,
        }
    }

    /// How a newcomer comes in whose gateway has mined before, or has not; none where it does not.
    ///
    /// Whoever hoards memory up to where nobody comes in would else keep out all that work: of its sessions and theirs the
    /// former go.
    #[must_use]
    pub fn admits(self, has_mined: bool) -> Option<Admission> {
        match self {
            Self::None => Some(Admission::Free),
            Self::RefuseNew => has_mined.then_some(Admission::InExchange),
            Self::CloseIdle | Self::CloseAny => None,
        }
    }

    /// For metrics and logs.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::RefuseNew => "refuse_new",
            Self::CloseIdle => "close_idle",
            Self::CloseAny => "close_any",
        }
    }

    /// Which sessions go now, of all that there are, each with whether a share of it was ever accepted and a number that is
    /// higher for a newer one.
    #[must_use]
    pub fn choose<S>(self, sessions: impl Iterator<Item = (S, bool, u64)>) -> Vec<S> {
        if self < Self::CloseIdle {
            return Vec::new();
        }
        let (mut miners, mut idle): (Vec<_>, Vec<_>) = sessions.partition(|(_, has_mined, _)| *has_mined);
        let newest_first =
            |sessions: &mut Vec<(S, bool, u64)>| sessions.sort_by_key(|(.., age)| std::cmp::Reverse(*age));
        newest_first(&mut idle);
        if idle.is_empty() && self == Self::CloseAny {
            newest_first(&mut miners);
            miners.truncate(miners.len().div_ceil(MINERS_PART));
            idle = miners;
        }
        idle.into_iter().take(CLOSED_MAX).map(|(session, ..)| session).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pressure_rises_with_what_is_held() {
        const BUDGET: u64 = 1_000;
        for (held, pressure) in [
            (0, Pressure::None),
            (849, Pressure::None),
            (850, Pressure::RefuseNew),
            (950, Pressure::CloseIdle),
            (1_000, Pressure::CloseAny),
            (u64::MAX, Pressure::CloseAny),
        ] {
            assert_eq!(Pressure::of(held, BUDGET), pressure, "{held}");
        }
        assert_eq!(Pressure::of(u64::MAX, 0), Pressure::None, "no budget");
    }

    #[test]
    fn who_has_mined_before_comes_in_for_longer() {
        for (pressure, stranger, known) in [
            (Pressure::None, Some(Admission::Free), Some(Admission::Free)),
            (Pressure::RefuseNew, None, Some(Admission::InExchange)),
            (Pressure::CloseIdle, None, None),
            (Pressure::CloseAny, None, None),
        ] {
            assert_eq!(
                (pressure.admits(false), pressure.admits(true)),
                (stranger, known),
                "{pressure:?}"
            );
        }
    }

    #[test]
    fn newcomers_go_first_and_miners_last() {
        let all = || (0..200_u64).map(|n| (n, n % 2 == 0, n));
        assert!(Pressure::RefuseNew.choose(all()).is_empty());
        let newcomers: Vec<u64> = (0..200).rev().filter(|n| n % 2 == 1).collect();
        assert_eq!(Pressure::CloseIdle.choose(all()), newcomers);
        assert_eq!(Pressure::CloseAny.choose(all()), newcomers, "as long as there are any");
        let miners = || all().filter(|(_, has_mined, _)| *has_mined);
        assert!(Pressure::CloseIdle.choose(miners()).is_empty());
        assert_eq!(Pressure::CloseAny.choose(miners()), [198, 196]);
        let many = (0..10_000_u64).map(|n| (n, false, n));
        assert_eq!(Pressure::CloseAny.choose(many).len(), CLOSED_MAX);
    }
}
