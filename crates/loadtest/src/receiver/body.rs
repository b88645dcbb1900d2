//! Bodies that go back.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::{Interval, interval};

/// A body that never ends by itself is as long as this.
const DRIP_BYTES: u64 = 1 << 30;
static ZEROS: [u8; 64 << 10] = [b'0'; 64 << 10];

/// The body of an answer.
#[derive(Debug)]
pub(super) enum AnswerBody {
    Whole(Bytes),
    /// So many more bytes of zeros.
    Zeros(u64),
    Drip(Box<Interval>),
}

impl AnswerBody {
    pub(super) const EMPTY: Self = Self::Whole(Bytes::new());

    pub(super) fn drip(every: Duration) -> Self {
        Self::Drip(Box::new(interval(every.max(Duration::from_millis(1)))))
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let data = match self.get_mut() {
            Self::Whole(bytes) => std::mem::take(bytes),
            Self::Zeros(left) => {
                let take = usize::try_from(*left).map_or(ZEROS.len(), |left| left.min(ZEROS.len()));
                *left -= take as u64;
                Bytes::from_static(&ZEROS[..take])
            }
            Self::Drip(interval) => {
                ready!(interval.poll_tick(cx));
                Bytes::from_static(b"0")
            }
        };
        Poll::Ready((!data.is_empty()).then(|| Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_empty(),
            Self::Zeros(left) => *left == 0,
            Self::Drip(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(match self {
            Self::Whole(bytes) => bytes.len() as u64,
            Self::Zeros(left) => *left,
            Self::Drip(_) => DRIP_BYTES,
        })
    }
}
