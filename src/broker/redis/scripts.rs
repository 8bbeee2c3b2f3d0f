//! The Lua scripts and the files that each consists of.
//!
//! A script is one file below `lua/`, in the folder of its concern and named after what it
//! does. Most begin with `lib/common.lua`, which reads the time and names the keys; other
//! code that several scripts share is in `lib/` too. Lua has no modules inside Redis, so the
//! files of a script are simply concatenated, and later files see the local
//! names of earlier ones.
//!
//! Scripts without `lib/common.lua` either touch no queue or are fast paths: defining the
//! shared functions costs more than their work. The header of a fast path names its general
//! script, and `tests/it/twins.rs` runs both on the same data and compares them.
//!
//! A script is atomic, but Redis does not roll back what it wrote before an error. So every
//! script tests first and writes last; `tests/it/scripts.rs` runs each on damaged data. A new
//! script needs a line in that test, one in `tests/cluster/keys.rs`, and its keys and fields
//! in `docs/redis-data.md`.

use std::sync::LazyLock;

use crate::pool::LuaScript;

/// Defines [`Scripts`] and [`SCRIPTS`] from the name of each script and its files, in order.
macro_rules! scripts {
    ($($name:ident: $($part:literal),+;)+) => {
        /// All scripts. The text of each is sent to a server at most once.
        pub(super) struct Scripts {
            $(pub $name: LuaScript,)+
        }

        pub(super) static SCRIPTS: LazyLock<Scripts> = LazyLock::new(|| Scripts {
            $($name: LuaScript::new(
                stringify!($name),
                concat!($(include_str!(concat!("lua/", $part, ".lua"))),+),
            ),)+
        });
    };
}

scripts! {
    enqueue_now: "enqueue/enqueue_now";
    enqueue_later: "enqueue/enqueue_later";
    enqueue: "lib/common", "lib/successor", "lib/store_job", "enqueue/enqueue";
    enqueue_limited: "lib/common", "lib/limits", "lib/successor", "lib/store_job", "enqueue/enqueue_limited";

    finish_and_dequeue: "worker/finish_and_dequeue";
    settle_and_dequeue: "lib/common", "lib/limits", "lib/successor", "lib/settle", "lib/dequeue",
        "worker/settle_and_dequeue";
    extend_leases: "lib/common", "lib/limits", "worker/extend_leases";
    write_output: "lib/common", "worker/write_output";
    mark_suspect: "lib/common", "worker/mark_suspect";
    announce_worker: "worker/announce_worker";
    record_types: "worker/record_types";
    request_change: "worker/request_change";

    next_due: "lib/common", "scheduler/next_due";
    forward_due: "lib/common", "lib/limits", "lib/successor", "scheduler/forward_due";
    list_expired_leases: "lib/common", "scheduler/list_expired_leases";
    delete_expired: "lib/common", "lib/successor", "scheduler/delete_expired";
    trim_archive: "lib/common", "scheduler/trim_archive";
    fire_ticks: "lib/common", "lib/successor", "lib/store_job", "scheduler/fire_ticks";
    record_run: "scheduler/record_run";
    announce_periodic: "scheduler/announce_periodic";

    list_ready_groups: "lib/common", "lib/group", "groups/list_ready_groups";
    take_group: "lib/common", "lib/group", "groups/take_group";
    read_set: "lib/common", "lib/group", "groups/read_set";
    remove_unreadable: "lib/common", "lib/group", "groups/remove_unreadable";
    record_locks: "lib/common", "lib/group", "groups/record_locks";
    aggregate_set: "lib/common", "lib/successor", "lib/store_job", "lib/group", "groups/aggregate_set";
    return_sets: "lib/common", "lib/group", "groups/return_sets";

    read_queue: "lib/common", "inspect/read_queue";
    read_history: "lib/common", "inspect/read_history";
    read_minutes: "lib/common", "inspect/read_minutes";
    count_upcoming: "lib/common", "inspect/count_upcoming";
    estimate_memory: "lib/common", "inspect/estimate_memory";
    list_groups: "lib/common", "inspect/list_groups";
    count_grouped: "lib/common", "inspect/count_grouped";
    list_aggregations: "lib/common", "inspect/list_aggregations";
    read_job: "lib/common", "lib/job_row", "inspect/read_job";
    list_jobs: "lib/common", "lib/job_row", "inspect/list_jobs";
    check_locks: "lib/common", "inspect/check_locks";
    read_standing: "lib/common", "lib/limits", "inspect/read_standing";

    set_limit: "lib/common", "lib/limits", "limits/set_limit";
    read_limits: "lib/common", "lib/limits", "limits/read_limits";
    list_limit_keys: "lib/common", "lib/limits", "limits/list_limit_keys";

    list_keys: "lib/common", "transfer/list_keys";
    restore_jobs: "lib/common", "transfer/restore_jobs";

    act_on_job: "lib/common", "lib/move_job", "operate/act_on_job";
    act_in_bulk: "lib/common", "lib/move_job", "operate/act_in_bulk";
    request_cancel: "lib/common", "operate/request_cancel";
    run_doctor: "lib/common", "operate/run_doctor";
    begin_removal: "lib/common", "operate/begin_removal";
    delete_leftovers: "lib/common", "operate/delete_leftovers";
    end_removal: "lib/common", "operate/end_removal";
}
