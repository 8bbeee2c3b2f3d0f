//! The contract of a store on a Redis Cluster of six nodes, with two queues in
//! slots of different nodes where a case has two.

#[path = "broker_contract/main.rs"]
mod contract;

use contract::{bench, site, support};

const REDIS: site::Kind = site::Kind::Cluster;
