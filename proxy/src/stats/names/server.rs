//! Stats of the process and its managers.

use crate::stat_block;

stat_block! {
    /// Scope `server`.
    pub struct ServerStats {
        gauge COMPILATION_SETTINGS_FIPS_MODE = "compilation_settings.fips_mode",
        gauge CONCURRENCY,
        gauge DAYS_UNTIL_FIRST_CERT_EXPIRING,
        counter DEBUG_ASSERTION_FAILURES,
        counter DROPPED_STAT_FLUSHES,
        counter DYNAMIC_UNKNOWN_FIELDS,
        counter ENVOY_BUG_FAILURES,
        counter ENVOY_NOTIFICATIONS,
        gauge HOT_RESTART_EPOCH,
        histogram INITIALIZATION_TIME_MS(Milliseconds),
        gauge LIVE,
        gauge MEMORY_ALLOCATED,
        gauge MEMORY_HEAP_SIZE,
        gauge MEMORY_PHYSICAL_SIZE,
        gauge PARENT_CONNECTIONS,
        gauge SECONDS_UNTIL_FIRST_OCSP_RESPONSE_EXPIRING,
        gauge STATE,
        counter STATIC_UNKNOWN_FIELDS,
        gauge STATS_RECENT_LOOKUPS,
        gauge TOTAL_CONNECTIONS,
        gauge UPTIME,
        gauge VERSION,
        counter WIP_PROTOS,
    }
}

stat_block! {
    /// Scopes `workers`, `main_thread`, `server.worker_<N>` and `server.main_thread`.
    pub struct WatchdogStats {
        counter WATCHDOG_MEGA_MISS,
        counter WATCHDOG_MISS,
    }
}

stat_block! {
    /// Scope `listener_manager`.
    pub struct ListenerManagerStats {
        counter LISTENER_ADDED,
        counter LISTENER_CREATE_FAILURE,
        counter LISTENER_CREATE_SUCCESS,
        counter LISTENER_IN_PLACE_UPDATED,
        counter LISTENER_MODIFIED,
        counter LISTENER_REMOVED,
        counter LISTENER_STOPPED,
        gauge TOTAL_FILTER_CHAINS_DRAINING,
        gauge TOTAL_LISTENERS_ACTIVE,
        gauge TOTAL_LISTENERS_DRAINING,
        gauge TOTAL_LISTENERS_WARMING,
        gauge WORKERS_PINNED,
        gauge WORKERS_STARTED,
    }
}

stat_block! {
    /// Scope `cluster_manager`.
    pub struct ClusterManagerStats {
        gauge ACTIVE_CLUSTERS,
        counter CLUSTER_ADDED,
        counter CLUSTER_MODIFIED,
        counter CLUSTER_REMOVED,
        counter CLUSTER_UPDATED,
        counter CLUSTER_UPDATED_VIA_MERGE,
        counter UPDATE_MERGE_CANCELLED,
        counter UPDATE_OUT_OF_MERGE_WINDOW,
        gauge WARMING_CLUSTERS,
    }
}

stat_block! {
    /// Scopes `thread_local_cluster_manager.main_thread` and `thread_local_cluster_manager.worker_<N>`.
    pub struct ThreadLocalClusterManagerStats {
        gauge CLUSTERS_INFLATED,
    }
}

stat_block! {
    /// Scope `runtime`.
    pub struct RuntimeStats {
        gauge ADMIN_OVERRIDES_ACTIVE,
        gauge DEPRECATED_FEATURE_SEEN_SINCE_PROCESS_START,
        counter DEPRECATED_FEATURE_USE,
        counter LOAD_ERROR,
        counter LOAD_SUCCESS,
        gauge NUM_KEYS,
        gauge NUM_LAYERS,
        counter OVERRIDE_DIR_EXISTS,
        counter OVERRIDE_DIR_NOT_EXISTS,
    }
}

stat_block! {
    /// Scope `filesystem`: files the process writes, which are access logs.
    pub struct FilesystemStats {
        counter FLUSHED_BY_TIMER,
        counter REOPEN_FAILED,
        counter WRITE_BUFFERED,
        counter WRITE_COMPLETED,
        counter WRITE_FAILED,
        gauge WRITE_TOTAL_BUFFERED,
    }
}

stat_block! {
    /// Scope `overload`.
    pub struct OverloadStats {
        histogram REFRESH_INTERVAL_DELAY(Milliseconds),
    }
}

stat_block! {
    /// Scope `envoy.overload_actions.reset_high_memory_stream`.
    pub struct ResetHighMemoryStreamStats {
        counter COUNT,
    }
}

stat_block! {
    /// Scope `dns.cares`; the resolver has another name here, its stats keep the one that dashboards know.
    pub struct DnsResolverStats {
        counter GET_ADDR_FAILURE,
        counter NOT_FOUND,
        gauge PENDING_RESOLUTIONS,
        counter REINITS,
        counter RESOLVE_TOTAL,
        counter TIMEOUTS,
    }
}

stat_block! {
    /// Scope `overload.<resource monitor>`.
    pub struct OverloadResourceStats {
        counter FAILED_UPDATES,
        counter SKIPPED_UPDATES,
        gauge PRESSURE,
    }
}

stat_block! {
    /// Scope `server`: what Envoy does not have.
    pub struct ProcessStats {
        /// Connections and streams that ended with a panic.
        lazy_counter PANICS,
    }
}
