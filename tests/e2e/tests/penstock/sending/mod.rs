//! Events as producers send them: one by one, in batches, as CloudEvents, by clients of the Zapier Triggers API.

mod batches;
mod cloudevents;
mod compressed;
mod events;
mod extremes;
mod lenient;
mod repeats;
mod zapier;
