//! Every frame that real gateways and pools exchanged opens, decodes, and is made again byte for byte.

mod capture;

#[test]
fn vectors_open_decode_and_encode_again() {
    let mut frames = 0;
    for capture in capture::all() {
        let mut former = Vec::new();
        for session in &capture.sessions {
            capture::replay(session, &mut former);
            frames += session.frames.len();
        }
    }
    assert!(frames > 0);
}
