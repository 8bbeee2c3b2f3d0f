//! Statistics of the job types of an application with a namespace: kept under its name.

use super::NamespacedBroker;
use crate::broker::{Answer, Slice, TypeHistory, TypeReport, TypeStats};

impl TypeStats for NamespacedBroker {
    fn add_type_report<'a>(&'a self, _: &'a str, report: &'a TypeReport) -> Answer<'a, ()> {
        Box::pin(self.answer(self.inner.add_type_report(self.namespace.as_str(), report)))
    }

    fn type_history<'a>(
        &'a self,
        _: &'a str,
        slices: &'a [Slice],
        job_type: Option<&'a str>,
    ) -> Answer<'a, TypeHistory> {
        Box::pin(self.answer(self.inner.type_history(self.namespace.as_str(), slices, job_type)))
    }
}
