//! The cases, by area. A name is a sentence that holds when the case passes.

mod actions;
mod asynqmon;
mod cli;
mod control;
mod explain;
mod fleet;
mod groups;
mod inspector;
mod options;
mod our_inspector;
mod outcomes;
mod pages;
mod periodic;
mod scene;

use std::future::Future;
use std::pin::Pin;

use crate::bench::{Bench, Side};

type Run = Box<dyn FnOnce(Bench) -> Pin<Box<dyn Future<Output = ()>>> + Send>;

pub struct Case {
    pub area: &'static str,
    pub name: String,
    /// Takes the better part of a minute or more.
    pub slow: bool,
    pub run: Run,
}

impl Case {
    pub fn title(&self) -> String {
        format!("{}: {}", self.area, self.name)
    }
}

/// Cases as they are collected.
#[derive(Default)]
pub struct Cases(Vec<Case>);

impl Cases {
    pub fn one<F, R>(&mut self, area: &'static str, name: &str, run: F)
    where
        F: FnOnce(Bench) -> R + Send + 'static,
        R: Future<Output = ()> + 'static,
    {
        self.add(area, name.to_owned(), false, run);
    }

    pub fn slow<F, R>(&mut self, area: &'static str, name: &str, run: F)
    where
        F: FnOnce(Bench) -> R + Send + 'static,
        R: Future<Output = ()> + 'static,
    {
        self.add(area, name.to_owned(), true, run);
    }

    /// The same from a Go client to a Rust worker, and the other way round. The
    /// case is told which side enqueues.
    pub fn both<F, R>(&mut self, areas: [&'static str; 2], name: &str, run: F)
    where
        F: FnOnce(Bench, Side) -> R + Copy + Send + 'static,
        R: Future<Output = ()> + 'static,
    {
        let [from_go, from_rust] = areas;
        self.add(from_go, name.to_owned(), false, move |bench| run(bench, Side::Go));
        self.add(from_rust, name.to_owned(), false, move |bench| run(bench, Side::Rust));
    }

    fn add<F, R>(&mut self, area: &'static str, name: String, slow: bool, run: F)
    where
        F: FnOnce(Bench) -> R + Send + 'static,
        R: Future<Output = ()> + 'static,
    {
        let run: Run = Box::new(move |bench| Box::pin(run(bench)));
        self.0.push(Case { area, name, slow, run });
    }
}

/// Go client and Rust worker, and the reverse.
pub const BOTH: [&str; 2] = ["Go client → Rust worker", "Rust client → Go worker"];

pub fn all() -> Vec<Case> {
    let mut cases = Cases::default();
    options::add(&mut cases);
    outcomes::add(&mut cases);
    control::add(&mut cases);
    groups::add(&mut cases);
    periodic::add(&mut cases);
    inspector::add(&mut cases);
    our_inspector::add(&mut cases);
    explain::add(&mut cases);
    fleet::add(&mut cases);
    cli::add(&mut cases);
    asynqmon::add(&mut cases);
    pages::add(&mut cases);
    // An area's cases stand together.
    let mut areas: Vec<&'static str> = Vec::new();
    for case in &cases.0 {
        if !areas.contains(&case.area) {
            areas.push(case.area);
        }
    }
    let place = |area: &str| areas.iter().position(|known| *known == area);
    cases.0.sort_by_key(|case| place(case.area));
    cases.0
}
