//! What a service counts.

use penstock_local::Service;

use crate::world::World;

impl World {
    /// The sum of a whole-numbered metric of `ingest-api` number `index` over all its labels; 0 when it never
    /// happened.
    ///
    /// # Panics
    /// When the service does not answer.
    pub async fn metric(&self, index: usize, name: &str) -> u64 {
        metric(&self.http, self.stack().ingest(index), name).await
    }
}

async fn metric(http: &reqwest::Client, service: &Service, name: &str) -> u64 {
    let response = http.get(service.metrics_url()).send().await;
    let text = response.expect("the service answers").text().await;
    let text = text.expect("an answer has a whole body");
    let samples = text.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        let is_it = rest.starts_with([' ', '{']);
        is_it.then(|| rest.rsplit(' ').next()?.parse::<u64>().ok())?
    });
    samples.sum()
}
