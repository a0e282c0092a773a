"""Chinese for the state of the worker and of the queue's database."""

ENGINE: dict[str, str] = {
    "The queue's database can't be written": "任务队列数据库无法写入",
    "The queue's database can't be written ({reason}). Jobs wait and continue on their own once it works again. Close programs that hold outputs/studio.db (a backup, a database browser), or free some disk space.": "任务队列数据库无法写入（{reason}）。任务会等待，恢复后自动继续。请关闭占用 outputs/studio.db 的程序（备份、数据库浏览器），或清理磁盘空间。",
    "The worker doesn't respond": "后台进程无响应",
    "The worker has given no sign of life for {seconds} s; the graphics driver may be stuck. Restart it: a training continues from its last checkpoint.": "后台进程已 {seconds} 秒没有响应，可能是显卡驱动卡死。可以重启后台进程：训练会从上一个检查点继续。",
    "Restart the worker": "重启后台进程",
    "The worker is being restarted.": "正在重启后台进程。",
    "The queue's database was damaged. It was moved to outputs/{file} and a new one was started; runs, images and models are untouched.": "任务队列数据库已损坏，已移到 outputs/{file} 并新建了数据库；训练记录、图片和模型都没有受影响。",
    "The queue's database outputs/{file} was deleted or emptied while the studio was running; a new one was started. Runs, images and models are untouched.": "任务队列数据库 outputs/{file} 在运行时被删除或清空，已新建数据库；训练记录、图片和模型都没有受影响。",
}
