//! Zeros over payloads of one segment.

use std::{io, io::IoSlice, sync::Arc};

use tokio::sync::oneshot;

use super::{read::Span, segment::Segment};

/// What is to be overwritten, and who waits for it.
pub(super) struct Overwrite {
    pub(super) segment: Arc<Segment>,
    spans: Vec<Span>,
    done: oneshot::Sender<io::Result<()>>,
}

impl Overwrite {
    pub(super) fn new(segment: Arc<Segment>, spans: Vec<Span>) -> (Self, oneshot::Receiver<io::Result<()>>) {
        let (done, pending) = oneshot::channel();
        (Self { segment, spans, done }, pending)
    }

    /// Durable when it returns. Blocks on the disk.
    pub(super) fn run(&self) -> io::Result<()> {
        overwrite(&self.segment, &self.spans)
    }

    pub(super) fn done(self, result: io::Result<()>) {
        // Nobody has to wait for it.
        let _ = self.done.send(result);
    }
}

/// Writes zeros and syncs.
pub(super) fn overwrite(segment: &Segment, spans: &[Span]) -> io::Result<()> {
    let longest = spans.iter().map(|span| span.length).max().unwrap_or(0);
    let zeros = vec![0; longest];
    for span in spans.iter().filter(|span| span.length > 0) {
        segment.file.write_at(span.at, &[IoSlice::new(&zeros[..span.length])])?;
    }
    segment.file.sync()
}
