/*
 * http.h
 *	  HTTP to one origin, driven by the process latch.  All libcurl is here.
 *
 * Call all of it outside a transaction: PEMS may be slow, and a snapshot held
 * here would hold back vacuum for as long.
 */
#ifndef PFA_HTTP_H
#define PFA_HTTP_H

#include "postgres.h"

typedef struct PfaHttpOptions
{
	const char *base_url; /* scheme://host[:port][/path], no user part */
	const char *username; /* Basic authentication, or NULL */
	const char *password;
	const char *api_key;      /* X-API-Key, or NULL */
	const char *tenant;       /* header "tenant", or NULL */
	const char *organization; /* header "organization", or NULL; may be
								 * changed with pfa_http_set_organization */
	const char *ca_file;      /* or NULL */
	const char *proxy;        /* or NULL: none, whatever the environment */
	bool verify_tls;
	bool private_hosts_allowed; /* a superuser named the host */
	int connect_timeout_ms;
	int timeout_ms; /* of a whole request */
} PfaHttpOptions;

/* Why a transfer ended.  Everything but OK and HTTP left no answer. */
typedef enum PfaHttpOutcome
{
	PFA_HTTP_RUNNING,
	PFA_HTTP_OK,              /* status 200 and a complete body */
	PFA_HTTP_STATUS,          /* another status */
	PFA_HTTP_REDIRECT,        /* 3xx: never followed; redirect_host is set */
	PFA_HTTP_NETWORK,         /* could not connect, cut, timed out */
	PFA_HTTP_TLS,             /* certificate or handshake */
	PFA_HTTP_REFUSED_ADDRESS, /* link-local, metadata, ... */
	PFA_HTTP_SINK             /* the sink stopped it */
} PfaHttpOutcome;

/*
 * Takes body bytes inside libcurl's callback: no palloc, no ereport, no server
 * call.  Called for the bodies of status 200 only.  Returns false to stop.
 */
typedef bool (*PfaHttpSink)(void *arg, const char *data, size_t len);

typedef struct PfaHttp PfaHttp;
typedef struct PfaHttpTransfer PfaHttpTransfer;

/* Freed with ctx, by a reset callback; no socket outlives it. */
extern PfaHttp *
pfa_http_create(MemoryContext ctx, const PfaHttpOptions *options);
extern void pfa_http_free(PfaHttp *http);
extern void pfa_http_set_organization(PfaHttp *http, const char *organization);

/* POST path (below base_url) with a JSON body, which is copied. */
extern PfaHttpTransfer *
pfa_http_post(PfaHttp *http, const char *path, const char *body,
			  PfaHttpSink sink, void *arg);

/*
 * Wait until a transfer ends, the latch is set, or timeout_ms has passed (-1:
 * no limit); runs sinks meanwhile.  Returns also when `wake` (may be NULL)
 * says so after a round of sinks.  Interrupts are served: this can ereport, at
 * once, in mid-transfer.  The latch is reset on return.
 */
extern void pfa_http_wait(PfaHttp *http, long timeout_ms,
						  bool (*wake)(void *arg), void *arg);

/*
 * Take no more of a body for now (a sink may call it, for its own transfer),
 * and go on.  The time limit runs on while a wait is under way.  Resuming can
 * run the sink at once, and end the transfer.
 */
extern void pfa_http_pause(PfaHttpTransfer *transfer);
extern void pfa_http_resume(PfaHttpTransfer *transfer);

extern PfaHttpOutcome pfa_http_outcome(const PfaHttpTransfer *transfer);
extern int pfa_http_status(const PfaHttpTransfer *transfer); /* 0 if none */
/* Seconds asked for by Retry-After (number, or date against Date); -1: none */
extern double pfa_http_retry_after(const PfaHttpTransfer *transfer);
extern int64 pfa_http_bytes(const PfaHttpTransfer *transfer); /* received on
																 * the wire */
/* One line, no secret, no URL with user part: "connection refused", ... */
extern const char *pfa_http_error(const PfaHttpTransfer *transfer);
/* First bytes of the body of an answer that was not 200, for its ErrorAlert */
extern const char *pfa_http_error_body(const PfaHttpTransfer *transfer);
extern void pfa_http_finish(PfaHttpTransfer *transfer); /* forget; aborts a
														 * running one */

#endif /* PFA_HTTP_H */
