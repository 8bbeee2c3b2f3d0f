//! The store of a move: one that is there, or one that is made when something is stored in it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::OnceCell;

use crate::broker::Broker;
use crate::error::Error;

/// A store that is being opened.
pub(crate) type Opening =
    Pin<Box<dyn Future<Output = Result<Arc<dyn Broker>, Error>> + Send + 'static>>;

/// The store of a move. Clones share it.
#[derive(Clone)]
pub(super) enum Store {
    Open(Arc<dyn Broker>),
    /// It did not exist when it was named.
    NotMade(Arc<NotMade>),
}

pub(super) struct NotMade {
    description: String,
    /// What it is until it is made: an empty store.
    none: Arc<dyn Broker>,
    open: Box<dyn Fn() -> Opening + Send + Sync>,
    made: OnceCell<Arc<dyn Broker>>,
}

impl Store {
    pub(super) fn not_made(
        description: String,
        none: Arc<dyn Broker>,
        open: impl Fn() -> Opening + Send + Sync + 'static,
    ) -> Self {
        let (open, made) = (Box::new(open), OnceCell::new());
        Self::NotMade(Arc::new(NotMade { description, none, open, made }))
    }

    /// The store in one line, without credentials.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Open(broker) => broker.describe(),
            Self::NotMade(store) => store.description.clone(),
        }
    }

    /// Whether nothing is there: it was not made before, nor since.
    pub(super) fn is_missing(&self) -> bool {
        matches!(self, Self::NotMade(store) if store.made.get().is_none())
    }

    /// The store, which is not made for this.
    pub(super) fn to_read(&self) -> Arc<dyn Broker> {
        match self {
            Self::Open(broker) => Arc::clone(broker),
            Self::NotMade(store) => Arc::clone(store.made.get().unwrap_or(&store.none)),
        }
    }

    /// The store, which is made if need be.
    ///
    /// # Errors
    /// It cannot be made.
    pub(super) async fn to_write(&self) -> Result<Arc<dyn Broker>, Error> {
        match self {
            Self::Open(broker) => Ok(Arc::clone(broker)),
            Self::NotMade(store) => store.made.get_or_try_init(&store.open).await.cloned(),
        }
    }
}
