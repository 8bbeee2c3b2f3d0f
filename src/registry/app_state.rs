//! What handlers take from the application and from the attempt.
//!
//! A handler names what it needs in its signature. At launch each [`Need`] clones its value out of
//! the application; one that the application does not manage stops the launch with the name of the
//! type. For each attempt [`FromContext`] then clones the value again into the handler's parameter,
//! without asking Rocket, so a worker without a web server works the same.

use std::any::{Any, TypeId, type_name};
use std::collections::HashMap;
use std::fmt;

use crate::job::{JobContext, JobError};

/// Values that handlers name in their signatures, cloned out of the application at launch.
///
/// A handler therefore sees the value as it was at launch. What changes later must be behind an
/// `Arc` with a lock or an atomic inside.
#[derive(Default)]
pub struct AppState(HashMap<TypeId, Box<dyn Any + Send + Sync>>);

/// The number of values, without the values.
impl std::fmt::Debug for AppState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AppState({})", self.0.len())
    }
}

impl AppState {
    /// Adds the value of a need.
    pub(crate) fn insert(&mut self, need: &Need, value: Box<dyn Any + Send + Sync>) {
        self.0.insert(need.id, value);
    }

    /// Adds a value of a type that handlers may name.
    pub(crate) fn put<T: Send + Sync + 'static>(&mut self, value: T) {
        self.0.insert(TypeId::of::<T>(), Box::new(value));
    }

    /// Whether the value of this need is there.
    pub(crate) fn has(&self, need: &Need) -> bool {
        self.0.contains_key(&need.id)
    }

    /// The value of this type. The launch has checked that it is there.
    pub(crate) fn get<T: Clone + 'static>(&self) -> Option<T> {
        self.0.get(&TypeId::of::<T>())?.downcast_ref::<T>().cloned()
    }
}

/// One value that a handler needs: its name for messages, and how to clone it out of the
/// application.
#[derive(Clone, Copy)]
pub struct Need {
    /// The Rust name of the type.
    pub(crate) name: &'static str,
    /// By which the value is found, and by which two needs are the same.
    pub(super) id: TypeId,
    /// Clones the value; `None` if the application does not manage this type.
    pub(crate) load: fn(&dyn Any) -> Option<Box<dyn Any + Send + Sync>>,
}

impl Need {
    /// The need for a `T`, which `load` clones out of the application.
    pub(crate) fn of<T: 'static>(load: fn(&dyn Any) -> Option<Box<dyn Any + Send + Sync>>) -> Self {
        Self { name: type_name::<T>(), id: TypeId::of::<T>(), load }
    }
}

impl fmt::Debug for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// A handler's parameter after the job: [`JobContext`], or
/// [`Managed<T>`](crate::Managed) for state the application manages.
#[diagnostic::on_unimplemented(
    message = "a job handler cannot receive `{Self}`",
    note = "after the job, a handler may name `JobContext` and `Managed<T>` for any `T: Clone` that the application manages: add `#[derive(Clone)]` to `T`, also beside `#[derive(Database)]`, or manage an `Arc<T>`"
)]
pub trait FromContext: Sized + Send + 'static {
    /// Adds the values that must be available at launch.
    fn needs(_needs: &mut Vec<Need>) {}

    /// Makes the parameter for one attempt.
    ///
    /// # Errors
    /// The attempt fails with this error.
    fn from_context(context: &JobContext, state: &AppState) -> Result<Self, JobError>;
}

impl FromContext for JobContext {
    fn from_context(context: &JobContext, _: &AppState) -> Result<Self, JobError> {
        Ok(context.clone())
    }
}
