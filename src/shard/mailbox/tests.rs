use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Wake;

use super::*;
use crate::shard::inbox::ReplyTo;
use crate::work::{Ask, Purpose};

#[derive(Default)]
struct Wakes(AtomicU32);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn attended() -> (Mailbox, Arc<Wakes>) {
    let wakes = Arc::new(Wakes::default());
    let mailbox = Mailbox::new(0);
    mailbox.attend(&wakes.clone().into());
    (mailbox, wakes)
}

fn woken(wakes: &Wakes) -> bool {
    wakes.0.swap(0, Ordering::Relaxed) > 0
}

/// Looks at the deadlines, and again as the next tick does, with nothing that came meanwhile.
fn look_twice(mailbox: &Mailbox, now_ms: u64) {
    mailbox.check_deadlines(now_ms);
    mailbox.check_deadlines(now_ms);
}

fn question() -> Validate {
    Validate {
        gateway: [0; 32],
        job: 0,
        ask: Ask::All,
        purpose: Purpose::Check,
        reply: ReplyTo::new(drop),
    }
}

#[test]
fn ping_is_due_after_silence_of_the_pool_and_not_before() {
    let (mailbox, wakes) = attended();
    mailbox.check_deadlines(PING_AFTER_MS - 1);
    assert!(!mailbox.take_ping() && !woken(&wakes));
    mailbox.check_deadlines(PING_AFTER_MS);
    assert!(mailbox.take_ping() && woken(&wakes));
    mailbox.sent_ms.set(PING_AFTER_MS);
    mailbox.check_deadlines(2 * PING_AFTER_MS - 1);
    assert!(!mailbox.take_ping());
}

#[test]
fn a_silent_gateway_and_a_frame_left_incomplete_end_the_session() {
    let (mailbox, _) = attended();
    look_twice(&mailbox, SILENT_AFTER_MS - 1);
    assert_eq!(mailbox.end_reason(), None);
    look_twice(&mailbox, SILENT_AFTER_MS);
    assert_eq!(mailbox.end_reason(), Some(EndReason::Silent));

    let (mailbox, _) = attended();
    mailbox.note_frame(false, true, 1_000);
    // More bytes of the same frame gain no time; a whole one does.
    mailbox.note_frame(false, true, FRAME_DEADLINE_MS);
    look_twice(&mailbox, 999 + FRAME_DEADLINE_MS);
    assert_eq!(mailbox.end_reason(), None);
    mailbox.note_frame(true, true, 1_000 + FRAME_DEADLINE_MS);
    look_twice(&mailbox, 1_000 + FRAME_DEADLINE_MS);
    assert_eq!(mailbox.end_reason(), None);
    look_twice(&mailbox, 1_000 + 2 * FRAME_DEADLINE_MS);
    assert_eq!(mailbox.end_reason(), Some(EndReason::FrameDeadline));
    mailbox.end(EndReason::Drained);
    assert_eq!(
        mailbox.end_reason(),
        Some(EndReason::FrameDeadline),
        "the first reason stands"
    );
}

#[test]
fn a_gateway_that_we_do_not_read_is_not_silent() {
    let (mailbox, _) = attended();
    mailbox.note_frame(false, true, 0);
    mailbox.in_line.set(true);
    look_twice(&mailbox, 10 * SILENT_AFTER_MS);
    assert_eq!(mailbox.end_reason(), None);
    mailbox.in_line.set(false);
    look_twice(&mailbox, 10 * SILENT_AFTER_MS + FRAME_DEADLINE_MS);
    assert_eq!(mailbox.end_reason(), Some(EndReason::FrameDeadline));
}

#[test]
fn each_piece_of_a_large_frame_has_the_deadline_of_a_frame() {
    let (mailbox, _) = attended();
    mailbox.note_frame(false, true, 0);
    mailbox.note_piece(FRAME_DEADLINE_MS - 1);
    look_twice(&mailbox, 2 * FRAME_DEADLINE_MS - 2);
    assert_eq!(mailbox.end_reason(), None);
    look_twice(&mailbox, 2 * FRAME_DEADLINE_MS - 1);
    assert_eq!(mailbox.end_reason(), Some(EndReason::FrameDeadline));
}

/// What came in time lies in the kernel then, and the session reads it between the two looks.
#[test]
fn after_a_stall_there_is_time_to_read_before_a_deadline_counts() {
    let stall_ms = 10 * SILENT_AFTER_MS;
    let (mailbox, wakes) = attended();
    mailbox.note_frame(false, true, 0);
    mailbox.check_deadlines(stall_ms);
    assert!(mailbox.end_reason().is_none() && woken(&wakes));
    mailbox.note_frame(true, true, stall_ms);
    // The next stall is another's: what began meanwhile has its own second look.
    mailbox.check_deadlines(stall_ms + FRAME_DEADLINE_MS);
    assert_eq!(mailbox.end_reason(), None);
    mailbox.note_frame(true, true, stall_ms + FRAME_DEADLINE_MS);
    look_twice(&mailbox, stall_ms + 2 * FRAME_DEADLINE_MS - 1);
    assert_eq!(mailbox.end_reason(), None);
    // A deadline is not another's second look.
    let (mailbox, _) = attended();
    mailbox.note_frame(false, true, 0);
    mailbox.check_deadlines(SILENT_AFTER_MS - 1);
    mailbox.check_deadlines(SILENT_AFTER_MS);
    assert_eq!(mailbox.end_reason(), None);
    mailbox.check_deadlines(SILENT_AFTER_MS);
    assert_eq!(mailbox.end_reason(), Some(EndReason::Silent));
}

#[test]
fn a_question_is_given_up_at_the_second_look_after_its_time() {
    let (mailbox, wakes) = attended();
    mailbox.answer_until_ms.set(Some(1_000));
    look_twice(&mailbox, 999);
    assert!(!woken(&wakes));
    mailbox.check_deadlines(1_500);
    assert!(woken(&wakes) && !mailbox.take_question_late());
    mailbox.check_deadlines(2_000);
    assert!(woken(&wakes) && mailbox.take_question_late() && !mailbox.take_question_late());
    // Its answer was read between the two.
    mailbox.answer_until_ms.set(Some(2_500));
    mailbox.check_deadlines(3_000);
    mailbox.answer_until_ms.set(None);
    mailbox.check_deadlines(3_500);
    assert!(!mailbox.take_question_late());
}

#[test]
fn other_frames_are_no_answer_and_one_that_we_do_not_read_is_not_late() {
    let (mailbox, _) = attended();
    mailbox.answer_until_ms.set(Some(1_000));
    mailbox.check_deadlines(1_000);
    mailbox.note_frame(true, false, 1_200);
    mailbox.note_piece(1_300);
    mailbox.check_deadlines(1_500);
    assert!(mailbox.take_question_late());

    let (mailbox, _) = attended();
    mailbox.answer_until_ms.set(Some(1_000));
    mailbox.in_line.set(true);
    look_twice(&mailbox, 999 + ANSWER_HELD_MS);
    assert!(!mailbox.take_question_late());
    look_twice(&mailbox, 1_000 + ANSWER_HELD_MS);
    assert!(mailbox.take_question_late(), "not for ever");
}

#[test]
fn who_takes_nothing_while_the_session_drains_is_deaf_and_who_waits_for_us_is_not() {
    let begun_ms = 60_000;
    let draining = || {
        let (mailbox, _) = attended();
        mailbox.note_frame(false, true, 0);
        mailbox.drain(begun_ms);
        mailbox
    };
    let mailbox = draining();
    look_twice(&mailbox, begun_ms + LEAVE_MS - 1);
    mailbox.check_deadlines(begun_ms + LEAVE_MS);
    assert!(!mailbox.is_deaf());
    mailbox.check_deadlines(begun_ms + LEAVE_MS + 500);
    assert!(mailbox.is_deaf());
    assert_eq!(mailbox.end_reason(), None, "it is we who do not read");

    let mailbox = draining();
    mailbox.check_deadlines(begun_ms + LEAVE_MS);
    mailbox.sent_ms.set(begun_ms + LEAVE_MS);
    look_twice(&mailbox, begun_ms + 2 * LEAVE_MS - 1);
    assert!(!mailbox.is_deaf(), "it took something");

    let mailbox = draining();
    mailbox.under_way.set(1);
    look_twice(&mailbox, begun_ms + 10 * LEAVE_MS);
    assert!(!mailbox.is_deaf(), "its share is on the way to the disk");
}

#[test]
fn what_is_left_wakes_the_session_and_is_bounded() {
    let (mailbox, wakes) = attended();
    for _ in 0..LINES_MAX {
        assert_eq!(mailbox.info(Arc::from("line")), Ok(()));
        assert!(woken(&wakes));
    }
    assert_eq!(mailbox.info(Arc::from("line")), Err(TooManyLines));
    assert_eq!(mailbox.take_lines().len(), LINES_MAX);
    assert_eq!(mailbox.info(Arc::from("line")), Ok(()));

    assert!(mailbox.ask(question()).is_ok() && woken(&wakes));
    assert!(mailbox.ask(question()).is_err(), "one waits already");
    assert!(mailbox.take_question().is_some() && mailbox.take_question().is_none());
}

#[test]
fn answers_come_out_in_order_and_are_no_longer_under_way() {
    let (mailbox, wakes) = attended();
    mailbox.under_way.set(3);
    for (nonce, first) in [(5, true), (6, false)] {
        let is_first = mailbox.answer(Accepted {
            nonce,
            target_pot: 0,
            job_id: 0,
            complete_ns: 0,
            tentative: false,
        });
        assert_eq!(is_first, first);
    }
    assert!(!woken(&wakes), "who releases answers has the session say them");
    let mut taken = Vec::new();
    mailbox.take_answers(|answer| taken.push(answer.nonce));
    assert_eq!(taken, [5, 6]);
    assert_eq!(mailbox.under_way.get(), 1);
    mailbox.take_answers(|_| unreachable!("none is left"));
}

#[test]
fn room_for_answers_stays_while_a_session_mines_and_goes_while_it_rests() {
    let (mailbox, _) = attended();
    let burst = || {
        let count = 4 * u32::try_from(ANSWERS_KEPT).expect("few");
        mailbox.under_way.set(count);
        for nonce in 0..count {
            mailbox.answer(Accepted {
                nonce,
                target_pot: 0,
                job_id: 0,
                complete_ns: 0,
                tentative: false,
            });
        }
    };
    let room = || mailbox.answers.borrow().capacity();
    for _ in 0..3 {
        burst();
        mailbox.take_answers(|_| ());
        mailbox.check_deadlines(0);
        assert!(room() >= 4 * ANSWERS_KEPT, "the next burst needs it again");
    }
    mailbox.check_deadlines(0);
    assert_eq!(room(), ANSWERS_KEPT);
    // What waits is never dropped.
    burst();
    mailbox.check_deadlines(0);
    let mut taken = 0;
    mailbox.take_answers(|_| taken += 1);
    assert_eq!(taken, 4 * ANSWERS_KEPT);
}

#[test]
fn a_session_that_leaves_has_no_other_deadline() {
    let (mailbox, wakes) = attended();
    mailbox.leave_until_ms.set(Some(10 * SILENT_AFTER_MS));
    mailbox.check_deadlines(10 * SILENT_AFTER_MS - 1);
    assert!(!woken(&wakes) && mailbox.end_reason().is_none() && !mailbox.take_ping());
    mailbox.check_deadlines(10 * SILENT_AFTER_MS);
    assert!(woken(&wakes));
}
