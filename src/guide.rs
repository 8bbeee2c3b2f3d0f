//! The guide and the reference, page by page.
//!
//! | guide | |
//! | --- | --- |
//! | [First job](first_job) | set up, enqueue, options |
//! | [Handlers and errors](handlers) | extractors, retries, progress, cancelling |
//! | [Periodic jobs](periodic) | cron, time zones, missed ticks |
//! | [Groups](groups) | many jobs become one |
//! | [Limits](limits) | how many jobs run at once, or start in a time |
//! | [Testing](testing) | without Redis, with a clock that the test moves |
//! | [Operating](operating) | list queues and jobs, and act on them |
//! | [Moving](moving) | to another store, directly or through a file |
//! | [Deploying](deploying) | checklist, container, systemd, Kubernetes, reverse proxy |
//! | [Troubleshooting](troubleshooting) | by symptom |
//! | [Coming from Asynq](coming_from_asynq) | the same things by name |
//! | [Coming from Sidekiq or Celery](coming_from_sidekiq_or_celery) | the same things by name |
//! | [Upgrading](upgrading) | what stays compatible |
//!
//! | reference | |
//! | --- | --- |
//! | [Configuration](configuration) | every key with its default |
//! | [HTTP API](http_api), [roles], [clients], [terminal] | routes, access, dashboard; from a shell |
//! | [Rate limit](rate_limit) | limits for any Rocket application |
//! | [Monitoring](monitoring) | rules for Prometheus, a dashboard for Grafana |
//! | [Operations](operations) | what a person on call should know |
//! | [Reliability](reliability), [Cluster](cluster), [servers], [fault campaign](chaos) | promises and proofs |
//! | [Performance](performance), [scaling] | figures and their causes; how many masters and workers a number of jobs takes |
//! | [Interoperation with Go](interop), [findings about Asynq](asynq_findings) | what is tested, where the two differ |
//! | [Glossary](glossary), [data in Redis](redis_data), [changelog] | words, keys, changes |

/// A page for each file, the same that the repository shows. `links.md` comes first: of
/// several definitions of a link the first counts, so that a page's own, which name files,
/// lead to modules here.
macro_rules! pages {
    ($($name:ident = $file:literal),* $(,)?) => {$(
        #[doc = include_str!("guide/links.md")]
        #[doc = include_str!(concat!("../", $file))]
        pub mod $name {}
    )*};
}

pages! {
    first_job = "docs/guide/first-job.md",
    handlers = "docs/guide/handlers.md",
    periodic = "docs/guide/periodic.md",
    groups = "docs/guide/groups.md",
    limits = "docs/guide/limits.md",
    testing = "docs/guide/testing.md",
    operating = "docs/guide/operating.md",
    monitoring = "docs/monitoring.md",
    moving = "docs/guide/moving.md",
    deploying = "docs/guide/deploying.md",
    troubleshooting = "docs/guide/troubleshooting.md",
    coming_from_asynq = "docs/guide/coming-from-asynq.md",
    coming_from_sidekiq_or_celery = "docs/guide/coming-from-sidekiq-or-celery.md",
    upgrading = "docs/guide/upgrading.md",
    configuration = "docs/configuration.md",
    http_api = "docs/http-api.md",
    roles = "docs/roles.md",
    clients = "docs/clients.md",
    terminal = "docs/terminal.md",
    rate_limit = "docs/rate-limit.md",
    operations = "docs/operations.md",
    reliability = "docs/reliability.md",
    cluster = "docs/cluster.md",
    servers = "docs/servers.md",
    chaos = "docs/chaos.md",
    performance = "docs/performance.md",
    scaling = "docs/scaling.md",
    interop = "docs/interop.md",
    asynq_findings = "docs/asynq-findings.md",
    glossary = "docs/glossary.md",
    redis_data = "docs/redis-data.md",
    changelog = "CHANGELOG.md",
}
