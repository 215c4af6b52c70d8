//! `typed_per_filter_config` of one level.

use std::collections::BTreeMap;

use prost_types::Any;
use xds_protos::envoy::config::route::v3 as pb;

use super::Cx;
use crate::config::values::decode;
use crate::config::{BuildCx, Path, Reject};
use crate::route::per_filter::{FilterConfig, PerFilterConfig, PerFilterConfigs};

/// Builds an override for a filter. `None` when no filter takes one of this type.
pub type BuildFilterConfig<'a> = &'a dyn Fn(&Any, &Path, &BuildCx) -> Result<Option<FilterConfig>, Reject>;

impl Cx<'_> {
    pub(super) fn per_filter(self, protos: &BTreeMap<String, Any>, path: &Path) -> Result<PerFilterConfigs, Reject> {
        let mut built = Vec::with_capacity(protos.len());
        for (name, any) in protos {
            let path = path.key(name);
            let entry = |disabled, config| PerFilterConfig { name: name.as_str().into(), disabled, config };
            let wrapper = "envoy.config.route.v3.FilterConfig";
            if any.type_url.rsplit('/').next() != Some(wrapper) {
                let config = (self.build_filter_config)(any, &path, self.cx)?.ok_or_else(|| unknown(any, &path))?;
                built.push(entry(false, Some(config)));
                continue;
            }
            let pb::FilterConfig { config, is_optional, disabled } = decode(any, &path)?;
            if disabled {
                built.push(entry(true, None));
                continue;
            }
            let path = path.field("config");
            let config = config.ok_or_else(|| path.reject("expected the filter's configuration, got none"))?;
            if config.type_url.is_empty() {
                built.push(entry(false, None));
                continue;
            }
            match (self.build_filter_config)(&config, &path, self.cx)? {
                Some(config) => built.push(entry(false, Some(config))),
                None if is_optional => {}
                None => return Err(unknown(&config, &path)),
            }
        }
        Ok(PerFilterConfigs((!built.is_empty()).then(|| built.into())))
    }
}

fn unknown(any: &Any, path: &Path) -> Reject {
    path.reject(format_args!("no HTTP filter takes a {:?} here", any.type_url))
}
