/*
 * redis_link.c
 *	  This process's connection to Redis: see redis_link.h.
 *
 * hiredis is used for its protocol alone.  The socket is made here, not
 * blocking, and waits are the server's: for the socket, the latch, the
 * postmaster.  A latch that was set meanwhile is set again at the end, as it
 * was meant for somebody else.
 *
 * No name is looked up here: that may take longer than any timeout.  The
 * scheduler does it (pfa_redis_resolve) and leaves the address in shared
 * memory.
 *
 * hiredis allocates by malloc, so that no error of ours passes through it, and
 * what it holds is freed at the latest when the connection is used next.
 */
#include "postgres.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "miscadmin.h"
#include "pgstat.h"
#include "portability/instr_time.h"
#include "storage/fd.h"
#include "storage/latch.h"
#include "storage/shmem.h"
#include "storage/lwlock.h"
#include "storage/spin.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "cache/backend.h"
#include "cache/redis_link.h"
#include "cache/redis_url.h"
#include "secret_file.h"
#include "compat.h"
#include "events/ring.h"
#include "guc.h"

#define FIRST_PAUSE_MS   500
#define LONGEST_PAUSE_MS 10000

/* No value of ours is larger: what sends more is not ours. */
#define MAX_REPLY (16 * 1024 * 1024)

/* An address is looked up again after so long. */
#define LOOKUP_MS     60000
#define FIRST_LOOK_MS 200

#define SOCKET_EVENT 2 /* position in the wait-event set */

typedef struct Shared
{
	slock_t mutex;
	bool down;
	int pause_ms;
	TimestampTz ask_again_at; /* while down */
	/* found by the scheduler */
	char name[PFA_REDIS_ADDRESS_LEN];
	char address[INET6_ADDRSTRLEN];
} Shared;

static Shared *shared;

static struct
{
	int fd; /* -1: none */
	redisContext *context;
	WaitEventSet *events;
	bool busy; /* sending or receiving */
	bool latch_was_set;
	instr_time start; /* of what redis_timeout counts for */
	int nsent;
	redisReply *replies[PFA_REDIS_MAX_COMMANDS];
	/* what the connection was made with */
	char *url_text;
	PfaRedisUrl url;
} conn = {.fd = -1};

/* ---- shared state ---- */

Size
pfa_redis_link_shmem_size(void)
{
	return MAXALIGN(sizeof(Shared));
}

void
pfa_redis_link_shmem_startup(void)
{
	bool found;

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	shared = ShmemInitStruct("pfa_vanguard redis link", sizeof(Shared), &found);
	if (!found)
	{
		memset(shared, 0, sizeof(Shared));
		SpinLockInit(&shared->mutex);
	}
	LWLockRelease(AddinShmemInitLock);
}

bool
pfa_redis_configured(void)
{
	return shared != NULL && pfa_guc_redis_url != NULL &&
		pfa_guc_redis_url[0] != '\0';
}

bool
pfa_redis_is_up(void)
{
	return pfa_redis_configured() && !shared->down;
}

/*
 * While Redis is down, one process at a time may try, when the pause is over.
 * A clock that was set back makes the pause end early, not late.
 */
static bool
may_ask(void)
{
	TimestampTz now;
	bool may;

	if (!shared->down)
		return true;
	now = GetCurrentTimestamp();
	SpinLockAcquire(&shared->mutex);
	may = !shared->down || now >= shared->ask_again_at ||
		shared->ask_again_at - now > LONGEST_PAUSE_MS * INT64CONST(2000);
	if (may)
		shared->ask_again_at =
			TimestampTzPlusMilliseconds(now,
										2 * pfa_guc_redis_timeout +
											FIRST_PAUSE_MS);
	SpinLockRelease(&shared->mutex);
	return may;
}

static void
tell(PfaEventLevel level, const char *code, const char *message)
{
	pfa_event_post(level, "cache", NULL, 0, code, message, NULL);
	ereport(LOG, (errmsg("cache: %s", message)));
}

/* reason: what happened, without a name, address or secret. */
static void
note_failure(const char *reason)
{
	TimestampTz now = GetCurrentTimestamp();
	bool first;

	SpinLockAcquire(&shared->mutex);
	first = !shared->down;
	shared->down = true;
	shared->pause_ms = first ? FIRST_PAUSE_MS :
							   Min(shared->pause_ms * 2, LONGEST_PAUSE_MS);
	shared->ask_again_at = TimestampTzPlusMilliseconds(now, shared->pause_ms);
	SpinLockRelease(&shared->mutex);
	pfa_cache_count(PFA_CACHE_ERRORS);
	if (first)
	{
		char message[200];

		snprintf(
			message, sizeof(message),
			"Redis %s; answers come from the tables until it answers again",
			reason);
		tell(PFA_LEVEL_WARNING, "redis_down", message);
	}
}

static void
note_success(void)
{
	bool was_down;

	if (!shared->down)
		return;
	SpinLockAcquire(&shared->mutex);
	was_down = shared->down;
	shared->down = false;
	SpinLockRelease(&shared->mutex);
	if (was_down)
		tell(PFA_LEVEL_INFO, "redis_up", "Redis answers again");
}

/* ---- the connection's end ---- */

static void
free_replies(void)
{
	for (int i = 0; i < PFA_REDIS_MAX_COMMANDS; i++)
	{
		if (conn.replies[i] != NULL)
			freeReplyObject(conn.replies[i]);
		conn.replies[i] = NULL;
	}
	conn.nsent = 0;
}

static void
disconnect(void)
{
	free_replies();
	if (conn.events != NULL)
		FreeWaitEventSet(conn.events);
	conn.events = NULL;
	if (conn.context != NULL)
		redisFree(conn.context); /* closes the socket */
	else if (conn.fd >= 0)
		close(conn.fd);
	conn.context = NULL;
	if (conn.fd >= 0)
		ReleaseExternalFD();
	conn.fd = -1;
	conn.busy = false;
}

static bool
fail(const char *reason)
{
	disconnect();
	note_failure(reason);
	return false;
}

/* ---- waiting ---- */

static long
time_left(void)
{
	instr_time now;

	INSTR_TIME_SET_CURRENT(now);
	INSTR_TIME_SUBTRACT(now, conn.start);
	return pfa_guc_redis_timeout - (long) INSTR_TIME_GET_MILLISEC(now);
}

/* Until the socket is ready; false after redis_timeout. */
static bool
wait_for(uint32 wanted)
{
	ModifyWaitEvent(conn.events, SOCKET_EVENT, wanted, NULL);
	for (;;)
	{
		long left = time_left();
		WaitEvent event;

		if (left <= 0 ||
			WaitEventSetWait(conn.events, left, &event, 1, PG_WAIT_EXTENSION) ==
				0)
			return false;
		if (event.events & WL_LATCH_SET)
		{
			ResetLatch(MyLatch);
			conn.latch_was_set = true;
			CHECK_FOR_INTERRUPTS();
			continue;
		}
		return true;
	}
}

static void
give_latch_back(void)
{
	if (conn.latch_was_set)
		SetLatch(MyLatch);
	conn.latch_was_set = false;
}

/* ---- connecting ---- */

/* Parse the setting anew where it has changed. */
static bool
read_url(void)
{
	const char *reason;

	if (conn.url_text != NULL && strcmp(conn.url_text, pfa_guc_redis_url) == 0)
		return true;
	disconnect();
	if (conn.url_text != NULL)
		pfree(conn.url_text);
	conn.url_text = NULL;
	if (!pfa_redis_url_parse(pfa_guc_redis_url, &conn.url, &reason))
		return false;
	/* As long as the connection that it describes. */
	conn.url_text = MemoryContextStrdup(TopMemoryContext, pfa_guc_redis_url);
	return true;
}

static bool
ip_address(const char *text, int port, struct sockaddr_storage *to,
		   socklen_t *len)
{
	struct sockaddr_in *in = (struct sockaddr_in *) to;
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *) to;

	memset(to, 0, sizeof(*to));
	if (inet_pton(AF_INET, text, &in->sin_addr) == 1)
	{
		in->sin_family = AF_INET;
		in->sin_port = htons(port);
		*len = sizeof(*in);
		return true;
	}
	if (inet_pton(AF_INET6, text, &in6->sin6_addr) == 1)
	{
		in6->sin6_family = AF_INET6;
		in6->sin6_port = htons(port);
		*len = sizeof(*in6);
		return true;
	}
	return false;
}

static bool
socket_address(const char *path, struct sockaddr_storage *to, socklen_t *len)
{
	struct sockaddr_un *un = (struct sockaddr_un *) to;

	memset(to, 0, sizeof(*to));
	un->sun_family = AF_UNIX;
	*len = sizeof(*un);
	return strlcpy(un->sun_path, path, sizeof(un->sun_path)) <
		sizeof(un->sun_path);
}

/* A name's address, if the scheduler has found one. */
static bool
resolved_address(struct sockaddr_storage *to, socklen_t *len)
{
	char address[INET6_ADDRSTRLEN];
	bool known;

	SpinLockAcquire(&shared->mutex);
	known = strcmp(shared->name, conn.url.address) == 0;
	memcpy(address, shared->address, sizeof(address));
	SpinLockRelease(&shared->mutex);
	return known && ip_address(address, conn.url.port, to, len);
}

static bool
find_address(struct sockaddr_storage *to, socklen_t *len)
{
	if (conn.url.is_socket)
		return socket_address(conn.url.address, to, len);
	if (strcmp(conn.url.address, "localhost") == 0)
		return ip_address("127.0.0.1", conn.url.port, to, len);
	return ip_address(conn.url.address, conn.url.port, to, len) ||
		resolved_address(to, len);
}

static bool
open_socket(const struct sockaddr_storage *address, socklen_t len)
{
	int yes = 1;
	int fd;

	if (!AcquireExternalFD())
		return fail("cannot be connected to: too many files are open");
	fd = socket(address->ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC,
				0);
	if (fd < 0)
	{
		ReleaseExternalFD();
		return fail("cannot be connected to: no socket can be made");
	}
	conn.fd = fd;
	if (!conn.url.is_socket)
		(void) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
	if (connect(fd, (const struct sockaddr *) address, len) != 0 &&
		errno != EINPROGRESS)
		return fail("cannot be connected to");
	return true;
}

/*
 * Making a wait-event set can fail, for lack of descriptors, and this may run
 * while a transaction commits.  An error takes the hold off interrupts away,
 * which is to stay as it was.
 */
static bool
watch_socket(void)
{
	MemoryContext caller = CurrentMemoryContext;
	uint32 holdoff = InterruptHoldoffCount;
	volatile bool watched = false;

	PG_TRY();
	{
		/* As long as the connection. */
		conn.events = pfa_create_wait_event_set(TopMemoryContext, 3);
		AddWaitEventToSet(conn.events, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch,
						  NULL);
		AddWaitEventToSet(conn.events, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET,
						  NULL, NULL);
		AddWaitEventToSet(conn.events, WL_SOCKET_WRITEABLE, conn.fd, NULL,
						  NULL);
		watched = true;
	}
	PG_CATCH();
	{
		InterruptHoldoffCount = holdoff;
		MemoryContextSwitchTo(caller);
		FlushErrorState();
	}
	PG_END_TRY();
	return watched;
}

static bool
finish_connect(void)
{
	int error = 0;
	socklen_t len = sizeof(error);

	if (!watch_socket())
		return fail("cannot be connected to: too many files are open");
	if (!wait_for(WL_SOCKET_CONNECTED))
		return fail("cannot be connected to within redis_timeout");
	if (getsockopt(conn.fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0 ||
		error != 0)
		return fail("cannot be connected to");
	conn.context = redisConnectFd(conn.fd);
	if (conn.context == NULL || conn.context->err != 0)
		return fail("cannot be connected to: out of memory");
	conn.context->flags &= ~REDIS_BLOCK;
	return true;
}

/* ---- exchanging ---- */

void
pfa_redis_send(int argc, const char *const *argv, const size_t *lens)
{
	Assert(conn.nsent < PFA_REDIS_MAX_COMMANDS);
	conn.busy = true;
	/* Out of memory shows as an error of the context, when it is written. */
	(void) redisAppendCommandArgv(conn.context, argc, (const char **) argv,
								  lens);
	conn.nsent++;
}

static bool
write_commands(void)
{
	int done = 0;

	for (;;)
	{
		if (redisBufferWrite(conn.context, &done) != REDIS_OK)
			return fail("has closed the connection");
		if (done)
			return true;
		if (!wait_for(WL_SOCKET_WRITEABLE))
			return fail("does not answer within redis_timeout");
	}
}

static bool
read_reply(int i)
{
	for (bool first = true;; first = false)
	{
		void *reply = NULL;
		size_t len;

		if (redisGetReplyFromReader(conn.context, &reply) != REDIS_OK)
			return fail("does not speak its protocol");
		if (reply != NULL)
		{
			conn.replies[i] = reply;
			return true;
		}
		len = conn.context->reader->len;
		if (len > MAX_REPLY)
			return fail("sends more than a value can be");
		/* One that always has more to say has no more time than others. */
		if (!first && time_left() <= 0)
			return fail("does not answer within redis_timeout");
		if (redisBufferRead(conn.context) != REDIS_OK)
			return fail("has closed the connection");
		/* A large reply comes in pieces, most of them without a wait. */
		if (conn.context->reader->len == len && !wait_for(WL_SOCKET_READABLE))
			return fail("does not answer within redis_timeout");
	}
}

static bool
write_and_read(void)
{
	bool done;

	INSTR_TIME_SET_CURRENT(conn.start);
	done = write_commands();
	for (int i = 0, n = conn.nsent; done && i < n; i++)
		done = read_reply(i);
	if (done)
		conn.busy = false;
	give_latch_back();
	return done;
}

bool
pfa_redis_converse(void)
{
	if (!write_and_read())
		return false;
	note_success();
	return true;
}

const redisReply *
pfa_redis_reply(int i)
{
	return conn.replies[i];
}

/* ---- logging in ---- */

static void
send_words(const char *a, const char *b, const char *c)
{
	const char *argv[3] = {a, b, c};
	size_t lens[3] = {strlen(a), strlen(b), c == NULL ? 0 : strlen(c)};

	pfa_redis_send(c == NULL ? 2 : 3, argv, lens);
}

/*
 * The password, palloc'd, "" for none; NULL where its file cannot be read.  A
 * bad file is a failure like that of Redis, and the statement goes on; why it
 * is bad goes to the server's log, once.
 */
static char *
read_password(void)
{
	if (pfa_guc_redis_password_file == NULL ||
		pfa_guc_redis_password_file[0] == '\0')
		return pstrdup(conn.url.password);
	return pfa_secret_file_read("redis_password_file",
								pfa_guc_redis_password_file, NULL,
								shared->down ? DEBUG1 : LOG_SERVER_ONLY);
}

static bool
log_in(void)
{
	char *password = read_password();
	char database[12];
	bool done = true;

	if (password == NULL)
		return fail(
			"cannot be logged in to: redis_password_file cannot be read");
	if (password[0] != '\0' && conn.url.user[0] != '\0')
		send_words("AUTH", conn.url.user, password);
	else if (password[0] != '\0')
		send_words("AUTH", password, NULL);
	explicit_bzero(password, strlen(password));
	pfree(password);
	if (conn.url.database != 0)
	{
		snprintf(database, sizeof(database), "%d", conn.url.database);
		send_words("SELECT", database, NULL);
	}
	if (conn.nsent == 0)
		return true;
	done = write_and_read();
	for (int i = 0, n = conn.nsent; done && i < n; i++)
	{
		if (conn.replies[i]->type == REDIS_REPLY_ERROR)
			return fail("refuses user, password or database");
	}
	return done;
}

static bool
make_connection(void)
{
	struct sockaddr_storage address;
	socklen_t len;
	bool connected;

	if (!find_address(&address, &len))
		return fail("has a name that is not looked up yet");
	INSTR_TIME_SET_CURRENT(conn.start);
	connected = open_socket(&address, len) && finish_connect();
	give_latch_back();
	return connected && log_in();
}

/* Whether Redis has closed a connection that was idle. */
static bool
is_closed(void)
{
	char byte;
	ssize_t n = recv(conn.fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);

	/* Nothing is to be read now: bytes would be another's answer. */
	return n >= 0 ||
		(errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR);
}

bool
pfa_redis_begin(void)
{
	if (!pfa_redis_configured() || !may_ask())
		return false;
	/* An error has cut the last exchange short: its answers are still to come. */
	if (conn.busy)
		disconnect();
	if (!read_url())
		return false;
	if (conn.context != NULL && is_closed())
		disconnect();
	if (conn.context == NULL)
	{
		disconnect();
		if (!make_connection())
			return false;
	}
	free_replies();
	return true;
}

/* ---- names ---- */

/*
 * Ask the resolver in a thread of its own, with all signals blocked in it: the
 * scheduler has to stay alive to signals while a name server does not answer.
 * At most one look-up is under way; what it finds is taken up by a later call.
 */
static struct
{
	bool under_way;
	struct gaicb request;
	char name[PFA_REDIS_ADDRESS_LEN];
	TimestampTz done_at;
} lookup;

static void
start_lookup(const char *name)
{
	struct gaicb *list[1] = {&lookup.request};
	sigset_t all;
	sigset_t before;

	strlcpy(lookup.name, name, sizeof(lookup.name));
	memset(&lookup.request, 0, sizeof(lookup.request));
	lookup.request.ar_name = lookup.name;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	lookup.under_way = getaddrinfo_a(GAI_NOWAIT, list, 1, NULL) == 0;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static void
publish(const struct addrinfo *found)
{
	char address[INET6_ADDRSTRLEN] = "";

	if (found->ai_family == AF_INET)
		inet_ntop(AF_INET, &((struct sockaddr_in *) found->ai_addr)->sin_addr,
				  address, sizeof(address));
	else if (found->ai_family == AF_INET6)
		inet_ntop(AF_INET6,
				  &((struct sockaddr_in6 *) found->ai_addr)->sin6_addr, address,
				  sizeof(address));
	SpinLockAcquire(&shared->mutex);
	memcpy(shared->name, lookup.name, sizeof(shared->name));
	memcpy(shared->address, address, sizeof(shared->address));
	SpinLockRelease(&shared->mutex);
}

static void
take_lookup(void)
{
	int error = gai_error(&lookup.request);

	if (error == EAI_INPROGRESS)
		return;
	lookup.under_way = false;
	lookup.done_at = GetCurrentTimestamp();
	if (error == 0)
		publish(lookup.request.ar_result);
	if (lookup.request.ar_result != NULL)
		freeaddrinfo(lookup.request.ar_result);
}

static bool
is_name(const PfaRedisUrl *url)
{
	struct sockaddr_storage address;
	socklen_t len;

	return !url->is_socket && strcmp(url->address, "localhost") != 0 &&
		!ip_address(url->address, url->port, &address, &len);
}

void
pfa_redis_resolve(void)
{
	if (lookup.under_way)
		take_lookup();
	if (lookup.under_way || !pfa_redis_configured() || !read_url() ||
		!is_name(&conn.url))
		return;
	if (strcmp(lookup.name, conn.url.address) == 0 &&
		!TimestampDifferenceExceeds(lookup.done_at, GetCurrentTimestamp(),
									LOOKUP_MS))
		return;
	start_lookup(conn.url.address);
	for (int i = 0; lookup.under_way && i < FIRST_LOOK_MS / 10; i++)
	{
		(void) WaitLatch(MyLatch, WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, 10,
						 PG_WAIT_EXTENSION);
		take_lookup();
	}
}
