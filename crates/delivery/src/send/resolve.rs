//! Names to addresses, without the search list of the machine: `db` means `db.`, never `db.cluster.local`.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use hickory_resolver::{
    TokioResolver,
    config::{LookupIpStrategy, ResolveHosts, ResolverConfig, ResolverOpts},
    net::{NetError, runtime::TokioRuntimeProvider},
    system_conf::read_system_conf,
};

/// One resolver with one cache for the process.
pub(super) struct Resolver {
    dns: TokioResolver,
}

impl Resolver {
    /// From `/etc/resolv.conf` and the hosts file.
    pub(super) fn from_system() -> Result<Self, NetError> {
        let (config, mut options) = match read_system_conf() {
            Ok((config, options)) if !config.name_servers().is_empty() => (config, options),
            Ok((_, options)) => without_name_servers("no name server", options),
            Err(error) => without_name_servers(&error.to_string(), ResolverOpts::default()),
        };
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        options.use_hosts_file = ResolveHosts::Always;
        options.timeout = Duration::from_secs(2);
        options.attempts = 2;
        // An endpoint that moves is followed within minutes, one whose name appears within seconds.
        options.positive_max_ttl = Some(Duration::from_mins(5));
        options.negative_max_ttl = Some(Duration::from_secs(10));
        let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        *builder.options_mut() = options;
        Ok(Self { dns: builder.build()? })
    }

    /// The addresses of `name`, those of version 4 first; empty if there are none or nobody could tell.
    pub(super) async fn addresses(&self, name: &str) -> Vec<IpAddr> {
        let name = name.trim_end_matches('.');
        // RFC 6761: never asked of a name server.
        if name == "localhost" || name.ends_with(".localhost") {
            return vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        }
        match self.dns.lookup_ip(format!("{name}.")).await {
            Ok(found) => {
                let mut addresses: Vec<IpAddr> = found.iter().collect();
                addresses.sort_by_key(IpAddr::is_ipv6);
                addresses
            }
            Err(error) => {
                tracing::debug!(%error, "a name could not be resolved");
                Vec::new()
            }
        }
    }
}

fn without_name_servers(why: &str, options: ResolverOpts) -> (ResolverConfig, ResolverOpts) {
    tracing::warn!(why, "/etc/resolv.conf is of no use: only addresses and the hosts file are known");
    (ResolverConfig::from_parts(None, Vec::new(), Vec::new()), options)
}
