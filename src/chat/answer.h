/* The form of an answer where no family's marks surround it: the text that a raw prompt goes on with. */
#ifndef CHAT_ANSWER_H
#define CHAT_ANSWER_H

#include "chat/chat.h"
#include "sample/grammar.h"

/* NULL with an error that names a->param; also for CHAT_ANSWER_TEXT, which has no grammar. */
grammar *chat_answer_compile(const chat_answer *a, error *err);

#endif
