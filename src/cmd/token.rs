//! `fanfare token`: a bearer token from the main secret, server running or not.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use fanfare_control::{MainSecret, Tokens, default_organization};
use fanfare_core::{ApplicationId, Clock as _, OrganizationId, SystemClock, SystemEntropy};

use crate::settings;

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
    let tokens = Tokens::new(&secret);
    let token = match &args.app {
        Some(id) => {
            let application: ApplicationId = id.parse().with_context(|| format!("--app {id}"))?;
            tokens.mint_application(organization, application, SystemClock.now())
        }
        None => tokens.mint_organization(organization, SystemClock.now()),
    };
    if args.json {
        println!("{}", serde_json::json!({ "token": token, "organization": organization }));
    } else {
        println!("{token}");
    }
    Ok(ExitCode::SUCCESS)
}
