/*
 * retry.h
 *	  How long to wait before asking PEMS again.
 */
#ifndef PFA_RETRY_H
#define PFA_RETRY_H

/* Longest wait that a Retry-After can ask for, in seconds. */
#define PFA_RETRY_AFTER_MAX 300.0

/*
 * Milliseconds to wait before attempt number n (1: the first retry).  Full
 * jitter over an exponential ceiling of 0.5 s to 30 s, so that many workers
 * that failed together do not come back together.  A Retry-After (seconds; 0 or
 * negative: none) is a lower bound, capped; up to one second is added to it.
 */
extern long pfa_retry_delay_ms(int attempt, double retry_after);

#endif /* PFA_RETRY_H */
