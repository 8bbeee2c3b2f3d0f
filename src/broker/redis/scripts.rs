//! The Lua scripts, each with the common beginning.

use std::sync::LazyLock;

use crate::pool::LuaScript;

/// All scripts; the text of each is sent to a server at most once.
pub(super) struct Scripts {
    pub admit: LuaScript,
    pub push: LuaScript,
    pub schedule: LuaScript,
    pub enqueue: LuaScript,
    pub exchange: LuaScript,
    pub swap: LuaScript,
    pub extend: LuaScript,
    pub suspect: LuaScript,
    pub due: LuaScript,
    pub forward: LuaScript,
    pub lapsed: LuaScript,
    pub expire: LuaScript,
    pub queue: LuaScript,
    pub group_sizes: LuaScript,
    pub groups: LuaScript,
    pub aggregations: LuaScript,
    pub history: LuaScript,
    pub minutes: LuaScript,
    pub upcoming: LuaScript,
    pub memory: LuaScript,
    pub job: LuaScript,
    pub list: LuaScript,
    pub locks: LuaScript,
    pub note: LuaScript,
    pub cancel: LuaScript,
    pub act: LuaScript,
    pub sweep: LuaScript,
    pub trim: LuaScript,
    pub remove: LuaScript,
    pub scavenge: LuaScript,
    pub removed: LuaScript,
    pub announce: LuaScript,
    pub doctor: LuaScript,
    pub ready: LuaScript,
    pub take: LuaScript,
    pub set: LuaScript,
    pub unfit: LuaScript,
    pub aggregate: LuaScript,
    pub keep_locks: LuaScript,
    pub mend: LuaScript,
    pub fire: LuaScript,
    pub entries: LuaScript,
    pub run: LuaScript,
}

/// The file `lua/<name>.lua` after `lua/common.lua` and, where one is named
/// first, what it shares with others.
macro_rules! script {
    ($name:literal) => {
        LuaScript::new(
            $name,
            concat!(include_str!("lua/common.lua"), include_str!(concat!("lua/", $name, ".lua"))),
        )
    };
    ($($shared:literal),+ => $name:literal) => {
        LuaScript::new(
            $name,
            concat!(
                include_str!("lua/common.lua"),
                $(include_str!(concat!("lua/", $shared, ".lua")),)+
                include_str!(concat!("lua/", $name, ".lua"))
            ),
        )
    };
    ($shared:literal, $name:literal) => {
        script!($shared => $name)
    };
}

pub(super) static SCRIPTS: LazyLock<Scripts> = LazyLock::new(|| Scripts {
    admit: script!("admit"),
    push: LuaScript::new("push", include_str!("lua/push.lua")),
    schedule: LuaScript::new("schedule", include_str!("lua/schedule.lua")),
    enqueue: script!("store", "enqueue"),
    exchange: script!("settle", "deliver" => "exchange"),
    swap: LuaScript::new("swap", include_str!("lua/swap.lua")),
    extend: script!("extend"),
    suspect: script!("suspect"),
    due: script!("due"),
    forward: script!("forward"),
    lapsed: script!("lapsed"),
    expire: script!("expire"),
    queue: script!("queue"),
    group_sizes: script!("group_sizes"),
    groups: script!("groups"),
    aggregations: script!("aggregations"),
    history: script!("history"),
    minutes: script!("minutes"),
    upcoming: script!("upcoming"),
    memory: script!("memory"),
    job: script!("row", "job"),
    list: script!("row", "list"),
    locks: script!("locks"),
    doctor: script!("doctor"),
    note: script!("note"),
    cancel: script!("cancel"),
    act: script!("moves", "act"),
    sweep: script!("moves", "sweep"),
    trim: script!("trim"),
    remove: script!("remove"),
    scavenge: script!("scavenge"),
    removed: script!("removed"),
    ready: script!("group", "ready"),
    take: script!("group", "take"),
    set: script!("group", "set"),
    unfit: script!("group", "unfit"),
    aggregate: script!("store", "group" => "aggregate"),
    keep_locks: script!("group", "keep_locks"),
    mend: script!("group", "mend"),
    announce: LuaScript::new("announce", include_str!("lua/announce.lua")),
    fire: script!("store", "fire"),
    entries: LuaScript::new("entries", include_str!("lua/entries.lua")),
    run: LuaScript::new("run", include_str!("lua/run.lua")),
});
