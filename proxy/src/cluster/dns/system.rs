//! The resolver: `/etc/hosts`, then the servers of the configuration or of `/etc/resolv.conf`.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use futures_util::future::BoxFuture;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    LookupIpStrategy, NameServerConfig, ProtocolConfig, ResolverConfig, ServerOrderingStrategy,
};
use hickory_resolver::lookup_ip::LookupIp;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use parking_lot::Mutex;

use super::{Answer, Failure, LookupFamily, Resolve, ResolverOptions};
use crate::stats::names::DnsResolverStats;
use crate::stats::{GaugeGuard, StatBlock, Stats};

/// Entries of a hosts file come with this time to live, a day.
const NO_TTL: u32 = 86_400;

/// Resolves with one set of sockets for each set of options; they are made when they are first needed, and made anew when
/// the system's configuration changes.
pub struct SystemResolver {
    resolvers: Mutex<Vec<Made>>,
    registry: Stats,
    /// From the first look-up on: a process without names to resolve has no such stats.
    stats: OnceLock<StatBlock<DnsResolverStats>>,
}

struct Made {
    family: LookupFamily,
    options: ResolverOptions,
    resolver: Arc<TokioResolver>,
    /// Of the files that it was made from.
    modified: Modified,
}

type Modified = [Option<SystemTime>; 2];

impl SystemResolver {
    pub fn new(stats: &Stats) -> Self {
        SystemResolver { resolvers: Mutex::default(), registry: stats.clone(), stats: OnceLock::new() }
    }

    fn stats(&self) -> &StatBlock<DnsResolverStats> {
        self.stats.get_or_init(|| self.registry.block("dns.cares"))
    }

    fn resolver(&self, family: LookupFamily, options: &ResolverOptions) -> Result<Arc<TokioResolver>, NetError> {
        let modified = modified();
        let mut resolvers = self.resolvers.lock();
        let known = resolvers.iter().position(|made| made.family == family && made.options == *options);
        if let Some(made) = known.and_then(|at| resolvers.get(at)).filter(|made| made.modified == modified) {
            return Ok(made.resolver.clone());
        }
        let resolver = Arc::new(make(family, options)?);
        if let Some(at) = known {
            resolvers.swap_remove(at);
            self.stats().inc(DnsResolverStats::REINITS);
        }
        resolvers.push(Made { family, options: options.clone(), resolver: resolver.clone(), modified });
        Ok(resolver)
    }
}

impl Resolve for SystemResolver {
    fn lookup<'a>(
        &'a self,
        name: &'a str,
        family: LookupFamily,
        options: &'a ResolverOptions,
    ) -> BoxFuture<'a, Result<Answer, Failure>> {
        Box::pin(async move {
            let stats = self.stats();
            let resolver = self.resolver(family, options).map_err(|error| Failure(error.to_string()))?;
            stats.inc(DnsResolverStats::RESOLVE_TOTAL);
            let _pending = GaugeGuard::new(stats, DnsResolverStats::PENDING_RESOLUTIONS);
            match resolver.lookup_ip(name).await {
                Ok(found) => Ok(answer(&found)),
                Err(NetError::Dns(DnsError::NoRecordsFound(none)))
                    if matches!(none.response_code, ResponseCode::NoError | ResponseCode::NXDomain) =>
                {
                    stats.inc(DnsResolverStats::NOT_FOUND);
                    Ok(Answer::default())
                }
                Err(error) => {
                    stats.inc(match error {
                        NetError::Timeout => DnsResolverStats::TIMEOUTS,
                        _ => DnsResolverStats::GET_ADDR_FAILURE,
                    });
                    Err(Failure(error.to_string()))
                }
            }
        })
    }
}

fn answer(found: &LookupIp) -> Answer {
    let ttl = found.as_lookup().answers().iter().map(|record| record.ttl).min();
    Answer {
        addresses: found.iter().collect(),
        ttl: ttl.filter(|ttl| *ttl < NO_TTL).map(|ttl| Duration::from_secs(ttl.into())),
    }
}

fn make(family: LookupFamily, options: &ResolverOptions) -> Result<TokioResolver, NetError> {
    // Without a readable configuration names in the hosts file still resolve.
    let (config, system) = hickory_resolver::system_conf::read_system_conf().unwrap_or_default();
    let (domain, search, mut servers) = config.into_parts();
    if !options.servers.is_empty() {
        servers = options.servers.iter().map(|server| name_server(*server)).collect();
    }
    if options.use_tcp {
        for server in &mut servers {
            server.connections.retain(|connection| matches!(connection.protocol, ProtocolConfig::Tcp));
        }
    }
    let (domain, search) = if options.no_default_search_domain { (None, Vec::new()) } else { (domain, search) };
    let config = ResolverConfig::from_parts(domain, search, servers);
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    *builder.options_mut() = system;
    let opts = builder.options_mut();
    opts.ip_strategy = match family {
        LookupFamily::Auto => LookupIpStrategy::Ipv6thenIpv4,
        LookupFamily::V4Only => LookupIpStrategy::Ipv4Only,
        LookupFamily::V6Only => LookupIpStrategy::Ipv6Only,
        LookupFamily::V4Preferred => LookupIpStrategy::Ipv4thenIpv6,
        LookupFamily::All => LookupIpStrategy::Ipv4AndIpv6,
    };
    opts.timeout = options.timeout;
    opts.attempts = options.tries as usize;
    opts.server_ordering_strategy =
        if options.rotate { ServerOrderingStrategy::RoundRobin } else { ServerOrderingStrategy::UserProvidedOrder };
    // Who asks keeps the answer for as long as it is to be kept.
    opts.cache_size = 0;
    builder.build()
}

fn name_server(server: SocketAddr) -> NameServerConfig {
    let mut config = NameServerConfig::udp_and_tcp(server.ip());
    config.connections.iter_mut().for_each(|connection| connection.port = server.port());
    config
}

fn modified() -> Modified {
    ["/etc/resolv.conf", "/etc/hosts"].map(|path| std::fs::metadata(path).and_then(|file| file.modified()).ok())
}
