//! What a service counts and measures.

use penstock_local::Service;

use super::World;

impl World {
    /// The sum of a counter of `ingest-api` number `index` over all its labels; 0 when it never happened.
    ///
    /// # Panics
    /// When the service does not answer.
    pub async fn metric(&self, index: usize, name: &str) -> u64 {
        self.counter(self.stack().ingest(index), name).await
    }

    /// The sum of a service's counter over all its labels; 0 when it never happened.
    ///
    /// # Panics
    /// When the service does not answer.
    pub async fn counter(&self, service: &Service, name: &str) -> u64 {
        let samples = self.samples(service, name).await;
        let counts = samples.iter().filter_map(|sample| sample.parse::<u64>().ok());
        counts.sum()
    }

    /// The largest value of a service's gauge over all its labels; nothing when it was never set.
    ///
    /// # Panics
    /// When the service does not answer.
    pub async fn gauge(&self, service: &Service, name: &str) -> Option<f64> {
        let samples = self.samples(service, name).await;
        let values = samples.iter().filter_map(|sample| sample.parse().ok());
        values.reduce(f64::max)
    }

    async fn samples(&self, service: &Service, name: &str) -> Vec<String> {
        let response = self.http.get(service.metrics_url()).send().await;
        let text = response.expect("the service answers").text().await;
        let text = text.expect("an answer has a whole body");
        let samples = text.lines().filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            let is_it = rest.starts_with([' ', '{']);
            is_it.then(|| rest.rsplit(' ').next().map(str::to_owned))?
        });
        samples.collect()
    }
}
