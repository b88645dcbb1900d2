//! `fanfare token`: a bearer token from the main secret, server running or not.

use std::{path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use anyhow::Context as _;
use fanfare_control::{Grant, MainSecret, Scope, Tokens, default_organization};
use fanfare_core::{ApplicationId, Clock as _, OrganizationId, SystemClock, SystemEntropy};

use crate::settings;

/// Ten years, as a token for an organization has by default.
const HOURS_MAX: i64 = 10 * 365 * 24;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Data directory; its main secret is made if it has none yet.
    #[arg(long, env = "FANFARE_DATA_DIR", default_value = settings::DATA_DIR)]
    data_dir: PathBuf,
    /// File with the main secret, where it is not in the data directory.
    #[arg(long, env = "FANFARE_MAIN_SECRET_FILE")]
    main_secret_file: Option<PathBuf>,
    /// Organization (`org_…`) that the token is for.
    #[arg(long)]
    org: Option<String>,
    /// Restrict the token to one application (`app_…`).
    #[arg(long)]
    app: Option<String>,
    /// The token only reads; it neither changes anything nor shows secrets.
    #[arg(long)]
    read_only: bool,
    /// How long the token is good; by default ten years, or 28 days with --app.
    #[arg(long, value_name = "HOURS", value_parser = clap::value_parser!(u32).range(1..=HOURS_MAX))]
    expires_in_hours: Option<u32>,
    /// Print a JSON object instead of the bare token.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let secret = if let Some(path) = &args.main_secret_file {
        MainSecret::from_file(path)?
    } else {
        std::fs::create_dir_all(&args.data_dir)
            .with_context(|| format!("cannot create data directory {}", args.data_dir.display()))?;
        MainSecret::load_or_create(&settings::main_secret_path(&args.data_dir), &SystemEntropy)?
    };
    let organization: OrganizationId = match &args.org {
        Some(id) => id.parse().with_context(|| format!("--org {id}"))?,
        None => default_organization(),
    };
    let mut grant = match &args.app {
        Some(id) => {
            let application: ApplicationId = id.parse().with_context(|| format!("--app {id}"))?;
            Grant::application(organization, application)
        }
        None => Grant::organization(organization),
    };
    if args.read_only {
        grant.scope = Scope::Read;
    }
    if let Some(hours) = args.expires_in_hours {
        grant.lifetime = Duration::from_hours(u64::from(hours));
    }
    let token = Tokens::new(&secret, Arc::new(SystemEntropy)).mint(grant, SystemClock.now());
    if args.json {
        println!("{}", serde_json::json!({ "token": token, "organization": organization }));
    } else {
        println!("{token}");
    }
    Ok(ExitCode::SUCCESS)
}
