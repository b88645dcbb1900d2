//! A tour of Fanfare with the official Rust SDK, unmodified: one for its two newest majors.
//!
//! ```text
//! tour newest | previous
//! TOUR_URL    the server
//! TOUR_TOKEN  of the organization
//! TOUR_NAME   begins all names of this tour: others run beside it
//! ```

mod check;
mod newest;
mod plain;
mod previous;
mod receiver;

use anyhow::{Context as _, Result, bail};

/// Of the server, and of one tour of it.
struct Visit {
    url: String,
    token: String,
    name: String,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let variable = |name: &str| std::env::var(name).with_context(|| format!("{name} is not set"));
    let visit = Visit {
        url: variable("TOUR_URL")?,
        token: variable("TOUR_TOKEN")?,
        name: variable("TOUR_NAME")?,
    };
    let (version, checks) = match std::env::args().nth(1).as_deref() {
        Some("newest") => ("2", newest::tour::tour(&visit).await?),
        Some("previous") => ("1", previous::tour::tour(&visit).await?),
        other => bail!("{other:?} is no tour"),
    };
    println!("svix {version}: {checks} checks");
    Ok(())
}
