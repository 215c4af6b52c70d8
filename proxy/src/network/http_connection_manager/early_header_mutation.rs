//! `early_header_mutation_extensions`: changes of a request's headers before anything else looks at
//! them: addresses, ids and sanitising come after, and the route is chosen by what is left.

use xds_protos::envoy::config::common::mutation_rules::v3::{HeaderMutation, header_mutation};
use xds_protos::envoy::config::core::v3::TypedExtensionConfig;
use xds_protos::envoy::extensions::http::early_header_mutation::header_mutation::v3 as proto;

use crate::config::matcher::StringMatcher;
use crate::config::{Path, Reject, values};
use crate::formatter::HeaderMutations;
use crate::http::RequestHead;
use crate::registry;
use crate::stream_info::StreamInfo;

/// One change; they apply in order, each to what the ones before it left.
pub enum EarlyMutation {
    Headers(HeaderMutations),
    RemoveOnMatch(StringMatcher),
}

impl EarlyMutation {
    /// # Errors
    /// For an extension that is not known and for headers that may not be changed.
    pub fn build_all(list: &[TypedExtensionConfig], path: &Path<'_>) -> Result<Vec<Self>, Reject> {
        let mut all = Vec::new();
        for (i, extension) in list.iter().enumerate() {
            let at = path.index(i);
            let at = at.field("typed_config");
            let config = registry::typed_config(extension.typed_config.as_ref(), &at)?;
            let name = config.type_url.rsplit('/').next().unwrap_or_default();
            if name != "envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation" {
                let why = format_args!("expected envoy.http.early_header_mutation.header_mutation, got {name}");
                return Err(at.reject(why));
            }
            let proto::HeaderMutation { mutations } = values::decode(&config, &at)?;
            let at = at.field("mutations");
            for (i, mutation) in mutations.iter().enumerate() {
                all.push(EarlyMutation::build(mutation, &at.index(i))?);
            }
        }
        Ok(all)
    }

    fn build(p: &HeaderMutation, path: &Path<'_>) -> Result<Self, Reject> {
        use header_mutation::Action;
        let (add, remove) = (path.field("append"), path.field("remove"));
        let headers = match &p.action {
            Some(Action::Append(option)) => {
                HeaderMutations::build((std::slice::from_ref(option), &add), (&[], &remove))
            }
            Some(Action::Remove(name)) => HeaderMutations::build((&[], &add), (std::slice::from_ref(name), &remove)),
            Some(Action::RemoveOnMatch(matching)) => {
                let at = path.field("remove_on_match");
                let at = at.field("key_matcher");
                let matcher = matching.key_matcher.as_ref().ok_or_else(|| at.reject("expected a matcher, got none"))?;
                return StringMatcher::build(matcher, &at).map(EarlyMutation::RemoveOnMatch);
            }
            None => return Err(path.reject("expected one of remove, append, remove_on_match")),
        };
        headers.map(EarlyMutation::Headers)
    }

    pub fn apply(&self, head: &mut RequestHead, info: &StreamInfo) {
        match self {
            EarlyMutation::Headers(mutations) => mutations.apply_to_request(head, info),
            EarlyMutation::RemoveOnMatch(matcher) => {
                let matching: Vec<_> =
                    head.headers.keys().filter(|name| matcher.matches(name.as_str().as_bytes())).cloned().collect();
                for name in matching {
                    head.headers.remove(name);
                }
            }
        }
    }
}
