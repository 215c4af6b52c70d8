//! Stats of role based access control.

use crate::stat_block;

stat_block! {
    /// Scope `http.<stat_prefix>.rbac.<rules_stat_prefix>`; of the network filter `<stat_prefix>rbac`.
    pub struct RbacStats {
        counter ALLOWED,
        counter DENIED,
    }
}

stat_block! {
    /// The same with `shadow_rules_stat_prefix`.
    pub struct RbacShadowStats {
        counter SHADOW_ALLOWED,
        counter SHADOW_DENIED,
    }
}
