// Package analysis decides from counts whether a canary is worse than the stable that served the same pods at the
// same time. It is pure: counts, settings and a time value in, a verdict with its evidence out.
//
// # The test
//
// For each metric (error rate, timeout rate) the null hypothesis is that the canary's rate exceeds the stable's by at
// most the allowed increase. It is tested one-sided with the score statistic of Farrington and Manning, whose
// variance uses the maximum likelihood rates under that constraint: "Test statistics and sample size formulae for
// comparative binomial trials with null hypothesis of non-zero risk difference or non-unity relative risk",
// Statistics in Medicine 9 (1990) 1447–1454.
//
// Levels here are tiny (below), and that far out the statistic isn't normal while failures are few: with an allowed
// increase of 1 % and 200 requests the normal approximation calls a chance of 1 in 4,000 one in a million. So the
// probability is computed exactly, over all outcomes at least as extreme, for the worst rate that the null hypothesis
// allows: Chan, "Exact tests of equivalence and efficacy with a non-zero lower bound for comparative studies",
// Statistics in Medicine 17 (1998) 1403–1413; the rates searched are limited to those that the stable's own counts
// leave possible: Berger and Boos, "P values maximized over a confidence set for the nuisance parameter", Journal of
// the American Statistical Association 89 (1994) 1012–1016. Only when both sides have thousands of failures is the
// normal approximation used.
//
// # Looking often
//
// A rollout is looked at on a fixed grid of times (Grid). The whole level of a rollout, Alpha, is divided between
// the metrics, and within a metric among the looks: a test at look k that follows one at look j gets
// Alpha·(1/(j+1) − 1/(k+1)). These telescope, so whatever the number of looks and however the looks depend on each
// other, the chance of ever rolling back a canary that isn't worse is at most Alpha (Bonferroni's inequality). Why
// this and not an O'Brien–Fleming boundary, which would be tighter: that needs to know how many looks there will be
// and how much each adds, and a rollout is paused, waits for samples, or stays at a pinned weight for weeks. Early
// looks get the most: a bad revision is usually bad at once. A look without enough samples tests nothing, spends
// nothing, and leaves its part to the next.
//
// # What the counts must be
//
// Both sides from the same span of time, in which the canary's weight didn't change: pooled over several weights, a
// passing outage that hit both alike would count most for the side that had the larger share then. Only of requests that
// either side could have got: commands that never go to the canary may fail more often, or less, than those that do.
// The rates of the pods are pooled, which the equal weight in every pod makes fair. Failures that come in bursts count
// as if each came alone; a shared cause hits both sides.
package analysis
