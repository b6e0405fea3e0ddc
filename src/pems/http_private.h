/*
 * http_private.h
 *	  What http.c and http_loop.c share.
 */
#ifndef PFA_HTTP_PRIVATE_H
#define PFA_HTTP_PRIVATE_H

#include "postgres.h"

#include <curl/curl.h>

#include "pems/address.h"
#include "pems/http.h"
#include "storage/latch.h"
#include "utils/palloc.h"

/* Sockets of one client: connections, a racing second address, resolvers. */
#define PFA_HTTP_MAX_SOCKETS 128

/* Transfers of one client that run at a time. */
#define PFA_HTTP_MAX_RUNNING 32

typedef struct PfaHttpSocket
{
	curl_socket_t fd;
	uint32 events; /* WL_SOCKET_READABLE, WL_SOCKET_WRITEABLE */
	int position;  /* in the wait event set */
	bool changed;  /* events differ from those in the set */
} PfaHttpSocket;

struct PfaHttp
{
	MemoryContext context; /* holds this struct and all below */
	MemoryContextCallback callback;
	CURLM *multi;

	/* what every request carries */
	char *base_url;
	PfaUrl url;
	char *ca_file;
	char *proxy;
	struct curl_slist *headers;
	bool verify_tls;
	bool private_hosts_allowed;
	int connect_timeout_ms;
	int timeout_ms;
	long buffer_size;

	PfaHttpTransfer *running; /* list through next */
	PfaHttpTransfer *idle;    /* finished ones, with their handles */
	int nrunning;
	bool news; /* a transfer ended since the last wait */

	/* the loop */
	PfaHttpSocket sockets[PFA_HTTP_MAX_SOCKETS];
	int nsockets;
	bool sockets_changed; /* added or removed: rebuild set */
	WaitEventSet *set;
	int64 timer_at;   /* libcurl's timer, ms; -1: none */
	int64 left_at;    /* when the last wait returned, ms */
	int open_fds;     /* counted by libcurl's callbacks */
	int reserved_fds; /* reported to fd.c */
};

struct PfaHttpTransfer
{
	PfaHttp *http;
	PfaHttpTransfer *next;
	CURL *easy;
	bool in_multi;
	PfaHttpSink sink;
	void *sink_arg;

	PfaHttpOutcome outcome;
	int status;
	int64 bytes; /* of an ended transfer */
	char error[256];
	char curl_error[CURL_ERROR_SIZE];
	char *error_body; /* malloc'd, NUL-terminated */
	size_t error_body_len;

	/* noted by callbacks */
	bool sink_stopped;
	bool pause_wanted; /* take no more */
	bool paused;       /* libcurl has been told so */
	bool encoded;      /* Content-Encoding was there */
	bool address_refused;
	bool address_tried;
	size_t header_bytes;
	int64 body_bytes; /* decoded */
	char retry_after[64];
	char date[64];

	int64 connect_deadline; /* ms */
	int64 deadline;
};

/* http.c */
extern void pfa_http_conclude(PfaHttpTransfer *transfer, CURLcode code);

/* http_loop.c */
extern int64 pfa_http_clock_ms(void);
extern void pfa_http_loop_attach(PfaHttp *http);
extern void pfa_http_loop_detach(PfaHttp *http);

#endif /* PFA_HTTP_PRIVATE_H */
