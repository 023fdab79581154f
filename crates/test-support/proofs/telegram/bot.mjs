// A bot on grammY. What it is told to do stands in the messages; what it did is seen in the server.
import { Bot, GrammyError, InlineKeyboard, InputFile } from 'grammy';

const bot = new Bot(process.env.PROOF_TOKEN, { client: { apiRoot: process.env.PROOF_API } });
const keyboard = new InlineKeyboard().text('Allow', 'a:1:allow').text('Deny', 'a:1:deny');
const refusal = async (call) => {
  try {
    await call();
    return 'not refused';
  } catch (error) {
    if (!(error instanceof GrammyError)) throw error;
    return `${error.error_code} ${error.description}`;
  }
};

bot.command('hello', async (ctx) => {
  await ctx.react('👀');
  await ctx.replyWithChatAction('typing');
  await ctx.reply('Shall I?', {
    entities: [{ type: 'bold', offset: 0, length: 5 }],
    reply_markup: keyboard,
    reply_parameters: { message_id: ctx.msgId, allow_sending_without_reply: true },
  });
});

bot.callbackQuery(/^a:/, async (ctx) => {
  await ctx.answerCallbackQuery({ text: 'noted', show_alert: true });
  await ctx.editMessageText(`${ctx.from.first_name} pressed ${ctx.callbackQuery.data}`);
  await ctx.reply(await refusal(() => ctx.editMessageText(`${ctx.from.first_name} pressed ${ctx.callbackQuery.data}`)));
});

bot.command('refusals', async (ctx) => {
  const { api, chat } = ctx;
  const tries = [
    () => api.sendMessage(chat.id, 'x'.repeat(4097)),
    () => api.sendMessage(chat.id, ' '),
    () => api.sendMessage(chat.id, '😀', { entities: [{ type: 'bold', offset: 0, length: 1 }] }),
    () => api.sendMessage(chat.id, 'x', { reply_markup: new InlineKeyboard().text('x', 'x'.repeat(65)) }),
    () => api.editMessageText(chat.id, 4711, 'x'),
    () => api.sendMessage(chat.id, 'x', { message_thread_id: 4711 }),
    () => ctx.api.setMessageReaction(chat.id, ctx.msgId, [{ type: 'emoji', emoji: '✅' }]),
    () => api.answerCallbackQuery('4711'),
  ];
  const answers = [];
  for (const call of tries) answers.push(await refusal(call));
  await ctx.reply(answers.join('\n'));
});

bot.on(['message:document', 'message:photo'], async (ctx) => {
  const file = await ctx.getFile();
  const answer = await fetch(`${process.env.PROOF_API}/file/bot${process.env.PROOF_TOKEN}/${file.file_path}`);
  const text = await answer.text();
  await ctx.replyWithDocument(new InputFile(Buffer.from(text.toUpperCase()), 'back.txt'), { caption: `from ${ctx.msg.caption}` });
});

bot.on('edited_message:text', (ctx) => ctx.reply(`edited: ${ctx.editedMessage.text}`));
bot.on('message:migrate_to_chat_id', (ctx) => ctx.api.sendMessage(ctx.msg.migrate_to_chat_id, 'moved'));
bot.on('message:text', (ctx) => ctx.reply(`echo: ${ctx.msg.text}`, { message_thread_id: ctx.msg.is_topic_message ? ctx.msg.message_thread_id : undefined }));
bot.catch(({ error }) => {
  console.error(error);
  process.exit(1);
});

await bot.api.setMyCommands([{ command: 'hello', description: 'a greeting' }]);
await bot.start({ allowed_updates: ['message', 'edited_message', 'callback_query'] });
