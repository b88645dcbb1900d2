//! Whether an answer repeats what was sent.
//!
//! The beginning of an answer is kept beside the attempt, in the log and in history, where erasing the message does not
//! reach it. An answer with a piece of the payload in it would be a copy that stays; so it is not kept.

/// So many bytes in a row of both are a piece.
const RUN: usize = 16;
/// A run of that length has a whole one of these in it, from wherever the payload is cut into them.
const BLOCK: usize = 8;
/// Bits of a filter for the blocks of an answer, which sets less than one of a hundred: each block of the payload that
/// passes it is compared with all of them.
const FILTER_BITS: usize = 1 << 16;
/// After so many blocks that are in both, none in a piece, nobody looks on, and the answer is not kept: it repeats
/// something, and time is limited.
const CHANCES: usize = 4_096;

/// Kept instead.
pub(crate) const NOT_KEPT: &[u8] = b"(not kept: it repeats the payload)";

/// Whether they share [`RUN`] bytes in a row, or all of a payload that is shorter but no less than a block. The answer is
/// short; of the payload each eighth byte is looked at.
pub(crate) fn repeats(answer: &[u8], payload: &[u8]) -> bool {
    let run = RUN.min(payload.len());
    if run < BLOCK || answer.len() < run {
        return false;
    }
    let mut filter = [0_u64; FILTER_BITS / 64];
    for window in answer.windows(BLOCK) {
        let (word, bit) = place(block(window));
        filter[word] |= bit;
    }
    let mut chances = CHANCES;
    for at in (0..=payload.len() - BLOCK).step_by(BLOCK) {
        let wanted = block(&payload[at..]);
        let (word, bit) = place(wanted);
        if filter[word] & bit == 0 {
            continue;
        }
        for (found, _) in answer.windows(BLOCK).enumerate().filter(|(_, window)| block(window) == wanted) {
            if common(&answer[..found], &payload[..at], true)
                + common(&answer[found..], &payload[at..], false)
                >= run
            {
                return true;
            }
            chances -= 1;
            if chances == 0 {
                return true;
            }
        }
    }
    false
}

fn block(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes[..BLOCK].try_into().expect("as long as a block"))
}

/// In the filter.
fn place(block: u64) -> (usize, u64) {
    let mixed = block.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let bit = usize::try_from(mixed >> 48).expect("16 bits");
    (bit / 64, 1 << (bit % 64))
}

/// How many bytes are the same, from the beginning on or from the end back.
fn common(one: &[u8], other: &[u8], backwards: bool) -> usize {
    let same = |(a, b): &(&u8, &u8)| a == b;
    if backwards {
        one.iter().rev().zip(other.iter().rev()).take_while(same).count()
    } else {
        one.iter().zip(other).take_while(same).count()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn share_a_piece(answer: &[u8], payload: &[u8]) -> bool {
        let run = RUN.min(payload.len());
        run >= BLOCK && answer.windows(run).any(|piece| payload.windows(run).any(|other| other == piece))
    }

    #[test]
    fn pieces_are_noticed_and_words_are_not() {
        let payload = br#"{"card":{"holder":"Ada Lovelace","number":"4929000000000006"}}"#;
        for answer in [
            &payload[..],
            &payload[20..36],
            br#"no such card: "number":"4929000000000006""#,
            br#"{"data":"{\"card\":{\"holder\":\"Ada Lovelace\",\"number\":\"4929000000000006\"}}"}"#,
        ] {
            assert!(repeats(answer, payload), "{}", String::from_utf8_lossy(answer));
        }
        for answer in [
            &b""[..],
            b"ok",
            br#"{"error":"no such card","holder":"unknown"}"#,
            &payload[20..35],
            b"\0\0\0\0\0\0\0\0",
        ] {
            assert!(!repeats(answer, payload), "{}", String::from_utf8_lossy(answer));
        }
        assert!(repeats(br#"got {"pin":12} today"#, br#"{"pin":12}"#), "all of a short one");
        assert!(!repeats(b"{}", b"{}"));
    }

    proptest! {
        /// Of few letters, so that there are many runs, and near misses.
        #[test]
        fn it_is_what_it_says(
            answer in prop::collection::vec(0_u8..3, 0..80),
            payload in prop::collection::vec(0_u8..3, 0..120),
            piece in 0_usize..24,
            at in 0_usize..80,
        ) {
            let mut answer = answer;
            let piece = piece.min(payload.len());
            let from = payload.len() - piece;
            let at = at.min(answer.len());
            answer.splice(at..at, payload[from..].iter().copied());
            prop_assert_eq!(repeats(&answer, &payload), share_a_piece(&answer, &payload));
        }
    }
}
