/*
 * http_loop.c
 *	  libcurl's event loop on a wait-event set.
 *
 * libcurl tells which sockets and which timer it waits for; we wait for them
 * together with the latch and the postmaster's death, so that a signal acts at
 * once whatever a server at the other end does.  The set is rebuilt only when
 * a socket comes or goes, which is a few times a connection.
 *
 * Every call that runs libcurl is made with all signals blocked: the thread
 * that it starts to resolve a name inherits the mask, and none of the server's
 * handlers may ever run in a second thread.  That costs two system calls a
 * round, 0.2 us beside the read of up to 512 kB that a round is.
 */
#include "postgres.h"

#include <pthread.h>
#include <signal.h>

#include "compat.h"
#include "miscadmin.h"
#include "pems/http_private.h"
#include "portability/instr_time.h"
#include "storage/fd.h"
#include "storage/ipc.h"
#include "utils/wait_event.h"

/* Events taken from the set at a time. */
#define EVENTS_A_ROUND 16

/* How long a wait lasts at most: a lost event then costs no more than this. */
#define LONGEST_NAP_MS 1000

/* Milliseconds of a clock that nobody sets. */
int64
pfa_http_clock_ms(void)
{
	instr_time now;

	INSTR_TIME_SET_CURRENT(now);
	return (int64) INSTR_TIME_GET_MILLISEC(now);
}

/* ---- libcurl's callbacks: no palloc, no ereport ---- */

static void
forget_socket(PfaHttp *http, curl_socket_t fd)
{
	for (int i = 0; i < http->nsockets; i++)
	{
		if (http->sockets[i].fd != fd)
			continue;
		http->sockets[i] = http->sockets[--http->nsockets];
		http->sockets_changed = true;
		return;
	}
}

static int
on_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *socket_arg)
{
	PfaHttp *http = arg;
	uint32 events = 0;
	int i;

	if (what == CURL_POLL_IN || what == CURL_POLL_INOUT)
		events |= WL_SOCKET_READABLE;
	if (what == CURL_POLL_OUT || what == CURL_POLL_INOUT)
		events |= WL_SOCKET_WRITEABLE;
	if (events == 0)
	{
		forget_socket(http, fd);
		return 0;
	}
	for (i = 0; i < http->nsockets; i++)
	{
		if (http->sockets[i].fd == fd)
			break;
	}
	if (i == http->nsockets)
	{
		if (i == PFA_HTTP_MAX_SOCKETS)
			return -1;
		http->nsockets++;
		http->sockets_changed = true;
		http->sockets[i].fd = fd;
	}
	http->sockets[i].events = events;
	http->sockets[i].changed = true;
	return 0;
}

static int
on_timer(CURLM *multi, long timeout_ms, void *arg)
{
	PfaHttp *http = arg;

	http->timer_at = timeout_ms < 0 ? -1 : pfa_http_clock_ms() + timeout_ms;
	return 0;
}

void
pfa_http_loop_attach(PfaHttp *http)
{
	http->timer_at = -1;
	http->left_at = pfa_http_clock_ms();
	http->sockets_changed = true;
	curl_multi_setopt(http->multi, CURLMOPT_SOCKETFUNCTION, on_socket);
	curl_multi_setopt(http->multi, CURLMOPT_SOCKETDATA, http);
	curl_multi_setopt(http->multi, CURLMOPT_TIMERFUNCTION, on_timer);
	curl_multi_setopt(http->multi, CURLMOPT_TIMERDATA, http);
}

/* After the multi handle is gone. */
void
pfa_http_loop_detach(PfaHttp *http)
{
	if (http->set != NULL)
		FreeWaitEventSet(http->set);
	http->set = NULL;
	for (; http->reserved_fds > 0; http->reserved_fds--)
		ReleaseExternalFD();
}

/* ---- the loop ---- */

static void
run_curl(PfaHttp *http, curl_socket_t fd, int what)
{
	sigset_t all;
	sigset_t before;
	CURLMcode code;
	int still_running;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	code = curl_multi_socket_action(http->multi, fd, what, &still_running);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (code != CURLM_OK)
		ereport(ERROR,
				(errcode(code == CURLM_OUT_OF_MEMORY ? ERRCODE_OUT_OF_MEMORY :
													   ERRCODE_FDW_ERROR),
				 errmsg("could not drive HTTP transfers: %s",
						curl_multi_strerror(code))));
}

/* Put what libcurl wants to wait for into the wait-event set. */
static void
update_set(PfaHttp *http)
{
	if (http->sockets_changed)
	{
		if (http->set != NULL)
			FreeWaitEventSet(http->set);
		http->set = NULL;
		http->set = pfa_create_wait_event_set(http->context,
											  http->nsockets + 2);
		AddWaitEventToSet(http->set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch,
						  NULL);
		AddWaitEventToSet(http->set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET,
						  NULL, NULL);
	}
	for (int i = 0; i < http->nsockets; i++)
	{
		PfaHttpSocket *socket = &http->sockets[i];

		if (http->sockets_changed)
			socket->position = AddWaitEventToSet(http->set, socket->events,
												 socket->fd, NULL, NULL);
		else if (socket->changed)
			ModifyWaitEvent(http->set, socket->position, socket->events, NULL);
		socket->changed = false;
	}
	http->sockets_changed = false;
}

/*
 * Tell fd.c how many descriptors libcurl holds.  It may close some of its own
 * for that, which is why this is not done in libcurl's callbacks.
 */
static void
account_fds(PfaHttp *http)
{
	for (; http->reserved_fds < http->open_fds; http->reserved_fds++)
		ReserveExternalFD();
	for (; http->reserved_fds > http->open_fds; http->reserved_fds--)
		ReleaseExternalFD();
}

/* Take from libcurl what has ended. */
static void
collect_ended(PfaHttp *http)
{
	CURLMsg *message;
	int left;

	while ((message = curl_multi_info_read(http->multi, &left)) != NULL)
	{
		PfaHttpTransfer *transfer = NULL;

		if (message->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE,
						  (char **) &transfer);
		pfa_http_conclude(transfer, message->data.result);
	}
}

/*
 * End what has taken too long.  libcurl has time limits as well, but they do
 * not hold everywhere, a stuck name lookup for one.
 */
static int64
enforce_deadlines(PfaHttp *http, int64 now)
{
	PfaHttpTransfer *transfer;
	PfaHttpTransfer *next;
	int64 first = PG_INT64_MAX;

	for (transfer = http->running; transfer != NULL; transfer = next)
	{
		int64 deadline = transfer->deadline;
		curl_off_t connected = 0;

		next = transfer->next;
		curl_easy_getinfo(transfer->easy, CURLINFO_PRETRANSFER_TIME_T,
						  &connected);
		if (connected == 0)
			deadline = Min(deadline, transfer->connect_deadline);
		if (deadline <= now)
			pfa_http_conclude(transfer, CURLE_OPERATION_TIMEDOUT);
		else
			first = Min(first, deadline);
	}
	return first;
}

/* One nap and what it brings.  True if the latch was set. */
static bool
run_round(PfaHttp *http, int64 until)
{
	WaitEvent events[EVENTS_A_ROUND];
	int64 now = pfa_http_clock_ms();
	bool latch = false;
	int n;

	if (http->timer_at >= 0)
		until = Min(until, http->timer_at);
	n = WaitEventSetWait(http->set, Min(Max(until - now, 0), LONGEST_NAP_MS),
						 events, EVENTS_A_ROUND, PG_WAIT_EXTENSION);
	for (int i = 0; i < n; i++)
	{
		int what = 0;

		if (events[i].events & WL_LATCH_SET)
		{
			ResetLatch(MyLatch);
			latch = true;
			continue;
		}
		if (events[i].events & WL_SOCKET_READABLE)
			what |= CURL_CSELECT_IN;
		if (events[i].events & WL_SOCKET_WRITEABLE)
			what |= CURL_CSELECT_OUT;
		if (what != 0)
			run_curl(http, events[i].fd, what);
	}
	if (http->timer_at >= 0 && http->timer_at <= pfa_http_clock_ms())
	{
		/* libcurl sets the next one in the call, if there is one */
		http->timer_at = -1;
		run_curl(http, CURL_SOCKET_TIMEOUT, 0);
	}
	return latch;
}

void
pfa_http_wait(PfaHttp *http, long timeout_ms, bool (*wake)(void *arg),
			  void *arg)
{
	int64 start = pfa_http_clock_ms();
	int64 until = timeout_ms < 0 ? PG_INT64_MAX : start + timeout_ms;

	/* The time that the caller took for itself is not the server's fault. */
	for (PfaHttpTransfer *t = http->running; t != NULL; t = t->next)
	{
		t->deadline += start - http->left_at;
		t->connect_deadline += start - http->left_at;
	}
	http->left_at = start;

	for (;;)
	{
		int64 deadline = enforce_deadlines(http, pfa_http_clock_ms());
		bool latch = false;

		if (!http->news)
		{
			update_set(http);
			latch = run_round(http, Min(until, deadline));
			account_fds(http);
			collect_ended(http);
		}
		CHECK_FOR_INTERRUPTS();
		http->left_at = pfa_http_clock_ms();
		if (http->news || latch || http->left_at >= until ||
			(wake != NULL && wake(arg)))
			break;
	}
	http->news = false;
}
