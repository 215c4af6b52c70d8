//! From a response to resources with names: takes off `envoy.service.discovery.v3.Resource`, and refuses what cannot be
//! meant. The messages of refusal are those of Envoy.

use std::collections::HashSet;
use std::time::Duration;

use prost::Message as _;
use xds_protos::envoy::service::discovery::v3::{
    DeltaDiscoveryResponse, DiscoveryResponse, Resource as Wrapper, ResourceError,
};

use crate::{Any, Resource, TypeUrl};

const WRAPPER: &str = "type.googleapis.com/envoy.service.discovery.v3.Resource";

/// A response with the wrapping off.
pub(super) struct Unwrapped {
    pub version: String,
    pub nonce: String,
    pub identifier: Option<String>,
    pub resources: Vec<Resource>,
    /// Resources without a body: `(name, version, ttl)`. They renew the time to live of what we have.
    pub heartbeats: Vec<(String, String, Option<Duration>)>,
    pub removed: Vec<String>,
    /// `(name, code, message)`.
    pub errors: Vec<(String, i32, String)>,
    /// Why the response cannot be used at all. The lists above are empty then.
    pub problem: Option<String>,
}

pub(super) fn delta(type_url: &TypeUrl, response: DeltaDiscoveryResponse) -> Unwrapped {
    let mut out = Unwrapped {
        version: response.system_version_info,
        nonce: response.nonce,
        identifier: response.control_plane.map(|it| it.identifier),
        resources: Vec::with_capacity(response.resources.len()),
        heartbeats: Vec::new(),
        removed: response.removed_resources,
        errors: errors(response.resource_errors),
        problem: None,
    };
    out.removed.extend(response.removed_resource_names.into_iter().map(|it| it.name));
    for wrapper in response.resources {
        out.push(type_url, wrapper, "DeltaDiscoveryResponse");
    }
    out.finish()
}

pub(super) fn sotw(type_url: &TypeUrl, response: DiscoveryResponse) -> Unwrapped {
    let mut out = Unwrapped {
        version: response.version_info,
        nonce: response.nonce,
        identifier: response.control_plane.map(|it| it.identifier),
        resources: Vec::with_capacity(response.resources.len()),
        heartbeats: Vec::new(),
        removed: Vec::new(),
        errors: errors(response.resource_errors),
        problem: None,
    };
    for any in response.resources {
        if any.type_url == WRAPPER {
            match Wrapper::decode(any.value.as_slice()) {
                // In this variant the version is the response's, whatever the wrapper says.
                Ok(wrapper) => {
                    out.push(type_url, Wrapper { version: out.version.clone(), ..wrapper }, "DiscoveryResponse");
                }
                Err(error) => out.problem = Some(format!("a wrapped resource cannot be decoded: {error}")),
            }
        } else {
            let wrapper = Wrapper { version: out.version.clone(), resource: Some(any), ..Wrapper::default() };
            out.push(type_url, wrapper, "DiscoveryResponse");
        }
    }
    out.finish()
}

impl Unwrapped {
    fn names(&self) -> impl Iterator<Item = &str> {
        self.resources.iter().map(|it| it.name.as_str()).chain(self.heartbeats.iter().map(|(name, ..)| name.as_str()))
    }

    fn push(&mut self, type_url: &TypeUrl, wrapper: Wrapper, message: &str) {
        let ttl = wrapper.ttl.and_then(|ttl| Duration::try_from(ttl).ok());
        let mut name = wrapper.name;
        if name.is_empty() {
            name = wrapper.resource_name.map(|it| it.name).unwrap_or_default();
        }
        let Some(any) = wrapper.resource else {
            self.heartbeats.push((name, wrapper.version, ttl));
            return;
        };
        if any.type_url != type_url.as_str() {
            self.problem = Some(format!(
                "type URL {} embedded in an individual Any does not match the message-wide type URL {type_url} in {message} {}",
                any.type_url, self.version
            ));
            return;
        }
        if name.is_empty() {
            match own_name(&any.value) {
                Some(own) => name = own,
                None => {
                    self.problem = Some(format!("a resource of type {type_url} cannot be decoded, or has no name"));
                    return;
                }
            }
        }
        let any = Any::from(any);
        self.resources.push(Resource { name, aliases: wrapper.aliases, version: wrapper.version, ttl, any });
    }

    fn finish(mut self) -> Self {
        match self.problem.take().or_else(|| self.duplicate()) {
            Some(problem) => self.refuse(problem),
            None => self,
        }
    }

    fn duplicate(&self) -> Option<String> {
        let mut names = HashSet::new();
        if let Some(name) = self.names().find(|name| !names.insert(*name)) {
            return Some(format!("duplicate name {name} found among added/updated resources"));
        }
        let name = self.removed.iter().find(|name| !names.insert(name))?;
        Some(format!("duplicate name {name} found in the union of added+removed resources"))
    }

    pub(super) fn refuse(mut self, problem: String) -> Self {
        self.resources.clear();
        self.heartbeats.clear();
        self.removed.clear();
        self.errors.clear();
        self.problem = Some(problem);
        self
    }
}

fn errors(errors: Vec<ResourceError>) -> Vec<(String, i32, String)> {
    let parts = |error: ResourceError| {
        let detail = error.error_detail.unwrap_or_default();
        Some((error.resource_name?.name, detail.code, detail.message))
    };
    errors.into_iter().filter_map(parts).collect()
}

/// The name inside a resource: in every message that xDS carries it is the string in field 1.
#[derive(Clone, PartialEq, prost::Message)]
struct Named {
    #[prost(string, tag = "1")]
    name: String,
}

fn own_name(value: &[u8]) -> Option<String> {
    let Named { name } = Named::decode(value).ok()?;
    (!name.is_empty()).then_some(name)
}
