//! What is seen while the demo runs: a block that is drawn again and again on a terminal, else a line now and then.

use std::{
    fmt::Write as _,
    io::{IsTerminal as _, Write as _},
    time::Duration,
};

use tokio::time::Instant;

use super::wire::Traffic;

/// Without a terminal a line comes this often.
const LINE_EVERY: Duration = Duration::from_secs(2);
/// No line of the block may wrap.
const WIDTH: usize = 78;

pub(crate) struct View {
    style: Style,
    started: Instant,
    /// Lines of the block on the screen.
    drawn: usize,
    line_due: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    Block,
    Lines,
    Silent,
}

/// How far everything is.
pub(crate) struct Scene<'a> {
    pub(crate) orders: u32,
    pub(crate) accepted: u64,
    /// None while the broker is dead.
    pub(crate) broker: Option<u32>,
    pub(crate) receivers: Vec<(&'a str, Traffic)>,
}

impl View {
    /// Now is the beginning.
    pub(crate) fn new(silent: bool) -> Self {
        let style = match (silent, std::io::stdout().is_terminal()) {
            (true, _) => Style::Silent,
            (false, true) => Style::Block,
            (false, false) => Style::Lines,
        };
        let now = Instant::now();
        Self { style, started: now, drawn: 0, line_due: now + LINE_EVERY }
    }

    /// Says that something happened; it stays to be read.
    pub(crate) fn say(&mut self, what: &str) {
        if self.style != Style::Silent {
            let text = format!("{}{:>6.1} s  {what}\n", self.erase(), self.elapsed());
            print(&text);
        }
    }

    pub(crate) fn show(&mut self, scene: &Scene<'_>) {
        match self.style {
            Style::Silent => {}
            Style::Block => {
                let block = scene.block();
                let text = format!("{}{block}", self.erase());
                self.drawn = block.lines().count();
                print(&text);
            }
            Style::Lines => {
                if Instant::now() >= self.line_due {
                    self.line_due = Instant::now() + LINE_EVERY;
                    print(&format!("{:>6.1} s  {}\n", self.elapsed(), scene.line()));
                }
            }
        }
    }

    fn elapsed(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    /// Takes the block off the screen.
    fn erase(&mut self) -> String {
        match std::mem::take(&mut self.drawn) {
            0 => String::new(),
            lines => format!("\x1b[{lines}A\x1b[J"),
        }
    }
}

impl Scene<'_> {
    fn block(&self) -> String {
        let broker = self.broker.map_or_else(|| "dead".to_owned(), |pid| format!("pid {pid}"));
        let mut block = format!("  broker {broker}, {} of {} orders accepted\n", self.accepted, self.orders);
        for (name, traffic) in &self.receivers {
            let taken = traffic.taken.len();
            let waiting = self.accepted.saturating_sub(taken);
            let mut row = format!("  {name:8} {taken:>6} taken {waiting:>5} waiting  ");
            row += &recent(traffic, WIDTH - row.len());
            writeln!(block, "{row}").expect("writing to a string does not fail");
        }
        block
    }

    fn line(&self) -> String {
        let mut line = format!("{} accepted", self.accepted);
        for (name, traffic) in &self.receivers {
            let latest = recent(traffic, 24);
            write!(line, " | {name} {}: {latest}", traffic.taken.len())
                .expect("writing to a string does not fail");
        }
        line
    }
}

/// As many of the latest arrivals as fit.
fn recent(traffic: &Traffic, width: usize) -> String {
    let mut text = String::new();
    for mark in traffic.recent.iter().rev() {
        if text.len() + mark.len() + 1 + "… ".chars().count() > width {
            break;
        }
        text = format!("{mark} {text}");
    }
    if text.is_empty() { "-".to_owned() } else { format!("… {}", text.trim_end()) }
}

/// A reader that went away does not stop the demo: it has to clean up.
pub(crate) fn print(text: &str) {
    let mut stdout = std::io::stdout().lock();
    drop(stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scene() -> Scene<'static> {
        let mut traffic = Traffic::default();
        for order in 990..1_006 {
            traffic.taken.insert(order);
            traffic.recent.push_back(format!("{order}!"));
        }
        Scene { orders: 2_000, accepted: 1_006, broker: Some(7), receivers: vec![("healthy", traffic)] }
    }

    #[test]
    fn the_block_is_as_narrow_as_a_terminal_and_shows_the_latest() {
        let block = scene().block();
        assert!(block.lines().all(|line| line.chars().count() <= WIDTH), "{block}");
        assert!(block.contains("16 taken   990 waiting") && block.ends_with(" 1005!\n"), "{block}");
    }

    #[test]
    fn a_line_has_everything_in_short() {
        let line = Scene { broker: None, ..scene() }.line();
        assert_eq!(
            line,
            "1006 accepted | healthy 16: … 1002! 1003! 1004!"
                .replace("1002! 1003! 1004!", "1003! 1004! 1005!")
        );
    }
}
