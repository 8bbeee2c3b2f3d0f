//! The JSON Schemas of job types, and the check of a posted payload against them.
//!
//! A schema is compiled once, at launch, so that an invalid one stops the launch instead of the
//! first request. The compiler is optional (feature `json-schema`). Without it a job type that has
//! a schema stops the launch too: its payloads would be stored unchecked.

use crate::error::Error;
use crate::registry::Registry;
use crate::web::error::ProblemDetails;

/// The schemas of the job types that have one.
#[cfg(feature = "json-schema")]
pub(crate) use checked::Schemas;
#[cfg(not(feature = "json-schema"))]
pub(crate) use unchecked::Schemas;

#[cfg(feature = "json-schema")]
mod checked {
    use std::collections::HashMap;

    use jsonschema::Validator;

    use super::{Error, ProblemDetails, Registry};
    use crate::web::error::FieldProblem;

    /// Maximum schema violations in one response.
    const MAX_VIOLATIONS: usize = 50;

    /// The compiled schemas, by job type.
    pub(crate) struct Schemas(HashMap<String, Validator>);

    impl Schemas {
        /// Compiles the schemas of a registry.
        ///
        /// # Errors
        /// [`Error::is_config`] for an invalid schema.
        pub(crate) fn of(registry: &Registry) -> Result<Self, Error> {
            let mut schemas = HashMap::new();
            for entry in registry.entries() {
                let Some(schema) = entry.schema() else { continue };
                let name = entry.job_type();
                let validator = jsonschema::validator_for(schema).map_err(|error| {
                    Error::config(format!("job type {name:?}: invalid schema: {error}"))
                })?;
                schemas.insert(name.to_owned(), validator);
            }
            Ok(Self(schemas))
        }

        /// Checks a payload against the schema of its type, if there is one.
        pub(crate) fn check(
            &self,
            job_type: &str,
            payload: &serde_json::Value,
        ) -> Result<(), ProblemDetails> {
            let Some(validator) = self.0.get(job_type) else { return Ok(()) };
            let violations: Vec<FieldProblem> = validator
                .iter_errors(payload)
                .take(MAX_VIOLATIONS)
                .map(|violation| FieldProblem {
                    pointer: violation.instance_path().to_string(),
                    detail: violation.to_string(),
                })
                .collect();
            if violations.is_empty() { Ok(()) } else { Err(ProblemDetails::fields(violations)) }
        }
    }
}

#[cfg(not(feature = "json-schema"))]
mod unchecked {
    use super::{Error, ProblemDetails, Registry};

    /// No job type has a schema.
    pub(crate) struct Schemas;

    impl Schemas {
        /// # Errors
        /// [`Error::is_config`] if a job type has a schema.
        pub(crate) fn of(registry: &Registry) -> Result<Self, Error> {
            let with_schema = registry.entries().into_iter().find(|entry| entry.schema().is_some());
            match with_schema {
                None => Ok(Self),
                Some(entry) => Err(Error::config(format!(
                    "job type {:?} has a JSON Schema, which this build cannot check: enable the \
                     feature \"json-schema\" (or \"openapi\") of rocket_jobqueue in Cargo.toml, \
                     or remove `schema` from the job type",
                    entry.job_type()
                ))),
            }
        }

        /// There is nothing to check.
        #[expect(clippy::unused_self, reason = "has the form of the check with schemas")]
        pub(crate) fn check(
            &self,
            _job_type: &str,
            _payload: &serde_json::Value,
        ) -> Result<(), ProblemDetails> {
            Ok(())
        }
    }
}
