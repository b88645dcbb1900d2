//! What `inspect` found, for people.

use std::fmt::Write as _;

use super::report::{AttemptOut, LaneOut, Report};

/// Retries shown per lane.
const RETRIES: usize = 5;

pub(crate) fn render(report: &Report) -> String {
    let mut out = format!("{} at {}\n({})\n", report.place, short(&report.at), report.note);
    if let Some(installation) = &report.installation {
        let (applications, endpoints) = (installation.applications, installation.endpoints);
        line(
            &mut out,
            format_args!(
                "installation {} (applications: {applications}, endpoints: {endpoints})",
                installation.id
            ),
        );
    }
    section(&mut out, "TOPICS");
    let rows = report.topics.iter().map(|topic| {
        let [partition, start, end] = [u64::from(topic.partition), topic.start, topic.end];
        vec![topic.topic.to_owned(), partition.to_string(), start.to_string(), end.to_string()]
    });
    columns(&mut out, &["topic", "partition", "start", "end"], rows.collect());
    if report.partitions.is_empty() {
        return out;
    }
    section(&mut out, "DELIVERY PARTITIONS (last checkpoint)");
    let names = ["partition", "epoch", "attempts", "deliveries", "taken from messages"];
    columns(&mut out, &names, partitions(report));

    let shown = report.lanes.len();
    section(&mut out, &format!("LANES ({})", shown_of(shown, report.lane_count as u64)));
    let names =
        ["endpoint", "ordering", "partition", "cursor", "next", "pending", "behind", "retries", "held by"];
    columns(&mut out, &names, report.lanes.iter().map(lane_row).collect());
    for lane in &report.lanes {
        lane_details(&mut out, lane);
    }
    let count = shown_of(report.dead_letters.len(), report.dead_letter_count);
    section(&mut out, &format!("DEAD LETTERS ({count})"));
    let rows = report.dead_letters.iter().map(|letter| {
        let endpoint = match (&letter.endpoint, letter.endpoint_number, letter.first) {
            (Some(endpoint), ..) => endpoint.clone(),
            (None, Some(number), _) => format!("number {number} (deleted)"),
            (None, None, Some(first)) => format!("none: the key is of {first}"),
            (None, None, None) => "none".to_owned(),
        };
        vec![
            endpoint,
            letter.message.map_or_else(|| "-".to_owned(), |id| id.to_string()),
            letter.reason.to_owned(),
            format!("{}/{}", letter.partition, letter.offset),
            short(&letter.at),
        ]
    });
    columns(&mut out, &["endpoint", "message", "reason", "partition/offset", "at"], rows.collect());
    out
}

fn partitions(report: &Report) -> Vec<Vec<String>> {
    let rows = report.partitions.iter().map(|partition| {
        let number = partition.partition.to_string();
        let Some(checkpoint) = &partition.checkpoint else {
            return vec![number, "none".to_owned()];
        };
        let sources = checkpoint.highest_source.iter();
        let sources: Vec<String> =
            sources.map(|place| format!("{}/{}", place.partition, place.offset)).collect();
        vec![
            number,
            checkpoint.epoch.to_string(),
            checkpoint.attempts.to_string(),
            checkpoint.deliveries.to_string(),
            sources.join(" "),
        ]
    });
    rows.collect()
}

fn lane_row(lane: &LaneOut) -> Vec<String> {
    let idle = if lane.pending + lane.behind == 0 { "nothing to do" } else { "-" };
    vec![
        lane.endpoint.clone(),
        lane.ordering.to_owned(),
        lane.partition.to_string(),
        lane.cursor.to_string(),
        lane.next.to_string(),
        lane.pending.to_string(),
        lane.behind.to_string(),
        lane.retry_count.to_string(),
        lane.held_by.unwrap_or(if lane.disabled { "disabled" } else { idle }).to_owned(),
    ]
}

/// Why it is held, its next retries, its last attempts; nothing for an endpoint that never had any.
fn lane_details(out: &mut String, lane: &LaneOut) {
    if lane.attempts.is_empty() && lane.pending + lane.behind == 0 {
        return;
    }
    line(out, format_args!("\n{} {}", lane.endpoint, lane.url));
    if let Some(because) = &lane.held_because {
        line(out, format_args!("  held: {because}"));
    }
    if let Some(since) = &lane.failing_since {
        line(out, format_args!("  every attempt failed since {}", short(since)));
    }
    for retry in lane.retries.iter().take(RETRIES) {
        let message = retry.message.map_or_else(|| "-".to_owned(), |id| id.to_string());
        let due = if retry.due_in_ms <= 0 {
            "due now".to_owned()
        } else {
            format!(
                "due in {:.1} s",
                std::time::Duration::from_millis(retry.due_in_ms.unsigned_abs()).as_secs_f64()
            )
        };
        line(
            out,
            format_args!("  retry {message} at offset {}: {} attempts, {due}", retry.offset, retry.attempts),
        );
    }
    if lane.retry_count > RETRIES as u64 {
        line(out, format_args!("  and {} more retries", lane.retry_count - RETRIES as u64));
    }
    for attempt in &lane.attempts {
        line(out, format_args!("  {}", attempt_line(attempt)));
    }
}

fn attempt_line(attempt: &AttemptOut) -> String {
    let message = attempt.message.map_or_else(|| format!("offset {}", attempt.offset), |id| id.to_string());
    let status = match (attempt.status, attempt.error) {
        (Some(status), None | Some("status")) => status.to_string(),
        (Some(status), Some(error)) => format!("{status} {error}"),
        (None, error) => error.unwrap_or("no answer").to_owned(),
    };
    let millis = std::time::Duration::from_micros(attempt.duration_us).as_secs_f64() * 1e3;
    let number = attempt.attempt_number;
    format!(
        "{} {message} attempt {number}: {} ({status}) in {millis:.1} ms",
        short(&attempt.at),
        attempt.outcome
    )
}

fn shown_of(shown: usize, count: u64) -> String {
    if shown as u64 == count { count.to_string() } else { format!("{shown} of {count}") }
}

/// A time to the second: `2026-01-31 12:00:00Z`.
fn short(at: &str) -> String {
    at.get(..19).map_or_else(|| at.to_owned(), |text| format!("{}Z", text.replace('T', " ")))
}

fn section(out: &mut String, title: &str) {
    line(out, format_args!("\n{title}"));
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    writeln!(out, "{text}").expect("writing to a string does not fail");
}

/// Aligned columns; a row may be shorter than the header.
fn columns(out: &mut String, names: &[&str], rows: Vec<Vec<String>>) {
    if rows.is_empty() {
        line(out, format_args!("  none"));
        return;
    }
    let header = names.iter().map(ToString::to_string).collect();
    let all: Vec<Vec<String>> = std::iter::once(header).chain(rows).collect();
    let width = |column: usize| {
        all.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..names.len()).map(width).collect();
    for row in &all {
        let mut text = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            write!(text, "  {cell:width$}").expect("writing to a string does not fail");
        }
        line(out, format_args!("{}", text.trim_end()));
    }
}
