//! Managed state of the application as a parameter of a handler.
//!
//! A handler names its state by type. `needs` collects the types at registration, the fairing checks
//! them at launch, and `from_context` cannot fail afterwards.

use std::any::{Any, type_name};
use std::ops::Deref;

use rocket::{Build, Orbit, Rocket};

use crate::job::{JobContext, JobError};
use crate::registry::{AppState, FromContext, Need};

/// State that the application manages, as a parameter of a handler.
///
/// `T` is cloned once at launch and once for each attempt, so it should be cheap to clone: a
/// pool, a client, an `Arc`. Without `Clone` it cannot be: Rocket lends its state for the length of a
/// call, and a job outlives every call. If the application does not manage a `T`, the launch fails with the
/// name of the type.
///
/// ```
/// use rocket_jobqueue::{Job, Managed};
/// use std::sync::Arc;
///
/// #[derive(Clone)]
/// struct Mailer(Arc<str>);
/// # #[derive(serde::Serialize, serde::Deserialize)] struct Welcome;
/// # impl Job for Welcome { const TYPE: &'static str = "mail:welcome"; }
///
/// async fn send_welcome(_job: Welcome, mailer: Managed<Mailer>) -> Result<(), std::io::Error> {
///     println!("by way of {}", mailer.0);
///     Ok(())
/// }
/// ```
pub struct Managed<T>(T);

/// The type, without the value: it may hold credentials.
impl<T> std::fmt::Debug for Managed<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Managed<{}>", std::any::type_name::<T>())
    }
}

impl<T> Managed<T> {
    /// The value itself.
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T> Deref for Managed<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// A clone of the application's `T`, before or after liftoff.
fn load<T: Clone + Send + Sync + 'static>(from: &dyn Any) -> Option<Box<dyn Any + Send + Sync>> {
    let state = match from.downcast_ref::<Rocket<Orbit>>() {
        Some(rocket) => rocket.state::<T>(),
        None => from.downcast_ref::<Rocket<Build>>()?.state::<T>(),
    };
    Some(Box::new(state?.clone()))
}

impl<T: Clone + Send + Sync + 'static> FromContext for Managed<T> {
    fn needs(needs: &mut Vec<Need>) {
        needs.push(Need::of::<T>(load::<T>));
    }

    fn from_context(_: &JobContext, state: &AppState) -> Result<Self, JobError> {
        // The launch has checked that it is there.
        let missing = || JobError::failed(format!("no managed state `{}`", type_name::<T>()));
        state.get().map(Managed).ok_or_else(missing)
    }
}
