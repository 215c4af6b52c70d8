//! Stats of xDS: the control plane connection and each subscription.

use crate::stat_block;

stat_block! {
    /// Scope `control_plane`, or `cluster.<name>.control_plane` for a subscription of its own.
    pub struct ControlPlaneStats {
        gauge CONNECTED_STATE,
        text IDENTIFIER,
        gauge PENDING_REQUESTS,
        counter RATE_LIMIT_ENFORCED,
    }
}

stat_block! {
    /// Scopes `cluster_manager.cds`, `listener_manager.lds`, `http.<stat_prefix>.rds.<route>`, `sds.<secret>`,
    /// `extension_config_discovery.<kind>.<name>`.
    pub struct SubscriptionStats {
        counter INIT_FETCH_TIMEOUT,
        counter UPDATE_ATTEMPT,
        histogram UPDATE_DURATION(Milliseconds),
        counter UPDATE_FAILURE,
        counter UPDATE_REJECTED,
        counter UPDATE_SUCCESS,
        gauge UPDATE_TIME,
        gauge VERSION,
        text VERSION_TEXT,
    }
}

stat_block! {
    /// The same scopes, for CDS and RDS.
    pub struct ConfigReloadStats {
        counter CONFIG_RELOAD,
        gauge CONFIG_RELOAD_TIME_MS,
    }
}

stat_block! {
    /// Scope `extension_config_discovery.<kind>.<name>`.
    pub struct ExtensionConfigStats {
        counter CONFIG_CONFLICT,
        counter CONFIG_FAIL,
        counter CONFIG_RELOAD,
    }
}

stat_block! {
    /// Scope `cluster.<name>`, what an EDS cluster has beyond `ClusterStats`.
    pub struct EdsStats {
        counter INIT_FETCH_TIMEOUT,
        histogram UPDATE_DURATION(Milliseconds),
        counter UPDATE_REJECTED,
        gauge UPDATE_TIME,
        text VERSION_TEXT,
    }
}

stat_block! {
    /// Scope `sds.<secret>`.
    pub struct SecretStats {
        counter KEY_ROTATION_FAILED,
    }
}

stat_block! {
    /// Scope `http.<stat_prefix>.rds.<route>`.
    pub struct RdsStats {
        counter UPDATE_EMPTY,
    }
}
