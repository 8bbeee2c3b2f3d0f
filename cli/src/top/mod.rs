//! `jobqueue top`: the queue, live, on the whole screen.
//!
//! Three parts meet in one loop: keys (a thread that reads the terminal), looks at the store (a task
//! every few seconds) and what an action came to. `model` holds what is known and decides what a key
//! does, without I/O; `draw` paints it; `look` asks the store.
//!
//! Nothing on the screen may be untrue: every figure is of the instant that the first line names, and
//! once the store is silent the line says so and the figures are dimmed. A row that an operator
//! selected stays selected when the list moves below it, and a question keeps the job it was asked
//! about.
//!
//! The terminal is restored however this ends: by a key, a signal, an error or a panic.

mod draw;
mod look;
mod model;

use std::io::{IsTerminal, stdin, stdout};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ratatui::crossterm::event::{self, Event, KeyEventKind};
use tokio::sync::{mpsc, watch};

use crate::failure::{Exit, Failure, Outcome};
use crate::output::Output;
use crate::store::Store;
use look::{Look, Wanted};
use model::{Model, Order};

/// How often the screen is painted although nothing came: ages on it grow.
const TICK: Duration = Duration::from_millis(250);

/// A thread panicked, and the terminal is the shell's again.
static PANICKED: AtomicBool = AtomicBool::new(false);

pub(crate) async fn run(store: &Arc<dyn Store>, out: &Output, interval: Duration) -> Outcome {
    if out.json || !stdin().is_terminal() || !stdout().is_terminal() {
        return Err(Failure::usage(
            "top: expected a terminal, found none; jobqueue stats --json prints the figures once",
        ));
    }
    // Before the screen is taken: what is wrong with the connection belongs in the shell.
    let first = look::look(store, &Wanted::default()).await?;
    let mut model = Model::new(store.describe(), out.color, interval);
    model.took(Ok(first));
    let ended = screen(store, model, interval).await;
    ratatui::restore();
    ended
}

/// Takes the screen until somebody or something ends it.
async fn screen(store: &Arc<dyn Store>, mut model: Model, interval: Duration) -> Outcome {
    let mut terminal = ratatui::try_init()?;
    restore_on_panic();
    let (want, wanted) = watch::channel(model.wanted());
    let mut looks = looks(Arc::clone(store), wanted, interval);
    let (said, mut outcomes) = mpsc::channel(8);
    let mut keys = keys();
    let mut signals = Signals::new()?;
    loop {
        terminal.draw(|frame| draw::draw(&mut model, frame))?;
        let order = tokio::select! {
            event = keys.recv() => match event {
                Some(Event::Key(key)) if key.kind != KeyEventKind::Release => model.key(key),
                Some(_) => Order::Nothing,
                // The terminal is gone.
                None => Order::Quit,
            },
            Some(look) = looks.recv() => {
                model.took(look);
                Order::Nothing
            }
            Some(outcome) = outcomes.recv() => {
                model.acted(outcome);
                Order::Look
            }
            signal = signals.next() => return Err(Failure::new(signal, "")),
            () = tokio::time::sleep(TICK) => Order::Nothing,
        };
        if PANICKED.load(Ordering::SeqCst) {
            return Err(Failure::new(Exit::Failed, "top ended by an error of its own"));
        }
        match order {
            Order::Nothing => {}
            Order::Quit => return Ok(()),
            // Any change wakes the looks, and so does the same wish again.
            Order::Look => drop(want.send(model.wanted())),
            Order::Act(action) => {
                let (store, said) = (Arc::clone(store), said.clone());
                tokio::spawn(async move {
                    let outcome = action.carry_out(&*store).await;
                    let _ = said.send(outcome).await;
                });
            }
        }
    }
}

/// Looks at once, then after each interval, and whenever something else is wanted.
fn looks(
    store: Arc<dyn Store>,
    mut wanted: watch::Receiver<Wanted>,
    interval: Duration,
) -> mpsc::Receiver<Outcome<Look>> {
    let (send, looks) = mpsc::channel(1);
    tokio::spawn(async move {
        loop {
            let now = wanted.borrow_and_update().clone();
            if send.send(look::look(&store, &now).await).await.is_err() {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(interval) => {}
                changed = wanted.changed() => if changed.is_err() { return },
            }
        }
    });
    looks
}

/// The terminal's events. The thread ends with the process: it waits for a key.
fn keys() -> mpsc::Receiver<Event> {
    let (send, keys) = mpsc::channel(16);
    std::thread::spawn(move || {
        while let Ok(event) = event::read() {
            if send.blocking_send(event).is_err() {
                return;
            }
        }
    });
    keys
}

/// Gives the terminal back before a panic is printed, also one in another thread.
fn restore_on_panic() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        ratatui::restore();
        PANICKED.store(true, Ordering::SeqCst);
        print(info);
    }));
}

/// The signals that end a program on a terminal.
struct Signals {
    #[cfg(unix)]
    ends: [tokio::signal::unix::Signal; 3],
}

impl Signals {
    #[cfg(unix)]
    fn new() -> Outcome<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        let [interrupt, terminate, hangup] = kinds.map(signal);
        Ok(Self { ends: [interrupt?, terminate?, hangup?] })
    }

    #[cfg(not(unix))]
    fn new() -> Outcome<Self> {
        Ok(Self {})
    }

    #[cfg(unix)]
    async fn next(&mut self) -> Exit {
        let [interrupt, terminate, hangup] = &mut self.ends;
        tokio::select! {
            _ = interrupt.recv() => Exit::Interrupted,
            _ = terminate.recv() => Exit::Terminated,
            _ = hangup.recv() => Exit::HungUp,
        }
    }

    #[cfg(not(unix))]
    async fn next(&mut self) -> Exit {
        let _ = tokio::signal::ctrl_c().await;
        Exit::Interrupted
    }
}
