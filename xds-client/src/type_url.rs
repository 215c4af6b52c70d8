//! Type URLs: what kind of resource a request, a response or a subscription is about.

use std::borrow::Cow;
use std::fmt;

use crate::options::Variant;

/// The type URL of a resource, such as `type.googleapis.com/envoy.config.cluster.v3.Cluster`.
///
/// The well-known ones are constants; any other string is allowed on an aggregated stream. Ordered by the string; the
/// order in which first requests leave is [`rank`](Self::rank).
///
/// ```
/// use xds_client::TypeUrl;
/// assert_eq!(TypeUrl::from("type.googleapis.com/envoy.config.cluster.v3.Cluster"), TypeUrl::CLUSTER);
/// assert_eq!(TypeUrl::CLUSTER.message_name(), "envoy.config.cluster.v3.Cluster");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TypeUrl(Cow<'static, str>);

/// What the protocol needs to know about a type that Envoy's API defines.
struct Known {
    url: TypeUrl,
    /// gRPC service, and the part of its method names after `Stream` or `Delta`.
    service: &'static str,
    method: &'static str,
}

macro_rules! known {
    ($($(#[$doc:meta])* $name:ident = $url:literal, $service:literal, $method:literal;)*) => {
        impl TypeUrl {
            $($(#[$doc])* pub const $name: TypeUrl = TypeUrl(Cow::Borrowed(concat!("type.googleapis.com/", $url)));)*
        }
        static KNOWN: &[Known] = &[$(Known { url: TypeUrl::$name, service: $service, method: $method }),*];
    };
}

// In the order in which first requests leave.
known! {
    /// CDS.
    CLUSTER = "envoy.config.cluster.v3.Cluster", "envoy.service.cluster.v3.ClusterDiscoveryService", "Clusters";
    /// EDS.
    ENDPOINT = "envoy.config.endpoint.v3.ClusterLoadAssignment", "envoy.service.endpoint.v3.EndpointDiscoveryService", "Endpoints";
    /// LDS.
    LISTENER = "envoy.config.listener.v3.Listener", "envoy.service.listener.v3.ListenerDiscoveryService", "Listeners";
    /// RDS.
    ROUTE = "envoy.config.route.v3.RouteConfiguration", "envoy.service.route.v3.RouteDiscoveryService", "Routes";
    /// SDS.
    SECRET = "envoy.extensions.transport_sockets.tls.v3.Secret", "envoy.service.secret.v3.SecretDiscoveryService", "Secrets";
    /// ECDS.
    EXTENSION_CONFIG = "envoy.config.core.v3.TypedExtensionConfig", "envoy.service.extension.v3.ExtensionConfigDiscoveryService", "ExtensionConfigs";
    /// SRDS.
    SCOPED_ROUTE = "envoy.config.route.v3.ScopedRouteConfiguration", "envoy.service.route.v3.ScopedRoutesDiscoveryService", "ScopedRoutes";
    /// VHDS.
    VIRTUAL_HOST = "envoy.config.route.v3.VirtualHost", "envoy.service.route.v3.VirtualHostDiscoveryService", "VirtualHosts";
    /// RTDS.
    RUNTIME = "envoy.service.runtime.v3.Runtime", "envoy.service.runtime.v3.RuntimeDiscoveryService", "Runtime";
}

impl TypeUrl {
    /// The whole URL.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What follows the last slash: the full name of the protobuf message.
    pub fn message_name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }

    /// Where this type stands in the order in which requests leave: CDS, EDS, LDS, RDS, SDS, then the others.
    pub fn rank(&self) -> usize {
        KNOWN.iter().position(|known| known.url == *self).unwrap_or(KNOWN.len())
    }

    /// Whether a state-of-the-world response of this type lists all there is, so that what it does not list is gone.
    /// True of listeners and clusters alone: the responses of other types may hold a part.
    pub fn is_state_of_the_world(&self) -> bool {
        *self == Self::LISTENER || *self == Self::CLUSTER
    }

    /// The gRPC method that serves this type alone, such as
    /// `/envoy.service.cluster.v3.ClusterDiscoveryService/DeltaClusters`. `None` for types that have no service of their
    /// own, and for virtual hosts with [`Variant::Sotw`], which exist in delta only.
    pub fn method(&self, variant: Variant) -> Option<String> {
        let known = KNOWN.iter().find(|known| known.url == *self)?;
        match variant {
            Variant::Sotw if *self == Self::VIRTUAL_HOST => None,
            Variant::Sotw => Some(format!("/{}/Stream{}", known.service, known.method)),
            Variant::Delta => Some(format!("/{}/Delta{}", known.service, known.method)),
        }
    }

    /// The type that a gRPC method path serves, and in which variant: the inverse of [`TypeUrl::method`].
    pub fn of_method(path: &str) -> Option<(TypeUrl, Variant)> {
        let (service, method) = path.strip_prefix('/')?.split_once('/')?;
        let known = KNOWN.iter().find(|known| known.service == service)?;
        let (variant, noun) = match method.strip_prefix("Stream") {
            Some(noun) => (Variant::Sotw, noun),
            None => (Variant::Delta, method.strip_prefix("Delta")?),
        };
        (noun == known.method).then(|| (known.url.clone(), variant))
    }
}

impl fmt::Display for TypeUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<&str> for TypeUrl {
    fn from(url: &str) -> Self {
        match KNOWN.iter().find(|known| known.url.as_str() == url) {
            Some(known) => known.url.clone(),
            None => TypeUrl(Cow::Owned(url.to_owned())),
        }
    }
}

impl From<String> for TypeUrl {
    fn from(url: String) -> Self {
        match KNOWN.iter().find(|known| known.url.as_str() == url) {
            Some(known) => known.url.clone(),
            None => TypeUrl(Cow::Owned(url)),
        }
    }
}
